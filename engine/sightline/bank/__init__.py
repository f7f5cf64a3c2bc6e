"""Feature banks: what a network says of many images, extracted once and asked many times."""
