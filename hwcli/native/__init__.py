"""What torch's own kernels are slow at on a CPU, compiled by the machine's compiler."""
