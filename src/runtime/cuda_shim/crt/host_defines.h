// The wheels that bring CUDA's runtime headers leave this one out. What those headers need of it
// when a plain C++ compiler reads them; the compiler's own, if installed, comes first.
#pragma once

#define __host__
#define __device__
#define __global__
#define __shared__
#define __constant__
#define __managed__
#define __device_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __cudart_builtin__
#define __builtin_align__(n) __attribute__((aligned(n)))
#define __align__(n) __attribute__((aligned(n)))
#define __specialization_static
#define CUDARTAPI
#define CUDARTAPI_CDECL
#define __forceinline__ __inline__ __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
