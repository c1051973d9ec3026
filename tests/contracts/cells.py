"""What of cells is exempt from rows."""

HOST = {"maso_rnn.cell": "reads the weights of a network of any library, outside of jax.jit"}
