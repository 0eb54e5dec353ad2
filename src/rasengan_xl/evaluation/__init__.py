"""How good an adapter is: losses on pictures that were never trained on."""
