// glibc_compat.h: included before every C file, Go's own too (build.sh), so that the library loads with glibc 2.28 although it
// was linked with a newer one. glibc 2.32 and 2.34 moved these functions into libc under new versions; the old ones are still
// there.

// Nothing may be included here: the files that follow choose features first. Assembly files get this header too.

#if defined(__gnu_linux__) && !defined(__ASSEMBLER__)
#if defined(__x86_64__)
#define NETMON_OLD "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define NETMON_OLD "GLIBC_2.17"
#endif
#endif

#ifdef NETMON_OLD
__asm__(".symver pthread_create,pthread_create@" NETMON_OLD);
__asm__(".symver pthread_join,pthread_join@" NETMON_OLD);
__asm__(".symver pthread_detach,pthread_detach@" NETMON_OLD);
__asm__(".symver pthread_key_create,pthread_key_create@" NETMON_OLD);
__asm__(".symver pthread_setspecific,pthread_setspecific@" NETMON_OLD);
__asm__(".symver pthread_sigmask,pthread_sigmask@" NETMON_OLD);
__asm__(".symver pthread_attr_getstack,pthread_attr_getstack@" NETMON_OLD);
__asm__(".symver pthread_attr_getstacksize,pthread_attr_getstacksize@" NETMON_OLD);
__asm__(".symver pthread_attr_setstacksize,pthread_attr_setstacksize@" NETMON_OLD);
__asm__(".symver pthread_getattr_np,pthread_getattr_np@" NETMON_OLD);
__asm__(".symver dlopen,dlopen@" NETMON_OLD);
__asm__(".symver dlsym,dlsym@" NETMON_OLD);
__asm__(".symver dlclose,dlclose@" NETMON_OLD);
__asm__(".symver dlerror,dlerror@" NETMON_OLD);
__asm__(".symver dladdr,dladdr@" NETMON_OLD);
#endif
