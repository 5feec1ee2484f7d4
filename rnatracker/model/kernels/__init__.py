"""The network's fused CPU kernels: `kernels.c`, how it is compiled, called, and made differentiable.

Read `functions.py` first: it says what the kernels compute and when they are used.
"""
