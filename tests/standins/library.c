/* A stand-in for a CUDA library on a CPU image that is made to look like a CUDA image. Empty: it
   tests how the doctor reads a machine and never counts as evidence that a GPU works. */
int hothouse_standin;
