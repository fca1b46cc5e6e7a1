"""The kernels for a GPU and what runs them: interpreted, and compiled, by Triton."""
