"""How a style network is trained and exported. The only room of ``styles`` that needs torch."""
