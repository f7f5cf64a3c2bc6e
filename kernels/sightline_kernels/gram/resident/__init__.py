"""Gram matrices of maps that lie on the device already, where the answers stay."""
