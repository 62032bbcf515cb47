"""Operations that the paper does not have: normalisation, up-sampling, other outputs."""
