"""Does the deployed artefact still look at the same things?"""
