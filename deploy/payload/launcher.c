/*
 * host/bin/NAME of a payload: starts NAME with the loader and the libraries that came with it.
 *
 * A node may have no Python and another C library, and an ELF file names its loader by an absolute path, which a
 * payload has none of. So this program needs no loader and no library, finds itself, and runs the payload's loader:
 *
 *     lib/programs/NAME.pyc exists    python3.11 -I -S -B lib/programs/NAME.pyc ARGUMENTS
 *     NAME is python3.11              python3.11 -I -S -B ARGUMENTS       (sys.executable of the above)
 *     else                            libexec/NAME ARGUMENTS
 *
 * No environment variable tells the loader anything, so what these programs run (runc) is not touched by it, and the
 * node's own /etc/ld.so.cache is not asked. Exit status 127 and a line on standard error where it cannot start.
 *
 * x86_64, Linux. gcc -nostdlib -static.
 */

enum { SYS_WRITE = 1, SYS_ACCESS = 21, SYS_EXECVE = 59, SYS_EXIT = 60, SYS_READLINK = 89 };
enum { MOST_ARGUMENTS = 4096, LONGEST_PATH = 4096 };

static long ask(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

static unsigned long length(const char *text)
{
    unsigned long n = 0;
    while (text[n])
        n++;
    return n;
}

static int equal(const char *one, const char *other)
{
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

__attribute__((noreturn)) static void stop(const char *why)
{
    static const char head[] = "enclave-cc: cannot start: ";
    ask(SYS_WRITE, 2, (long)head, sizeof head - 1);
    ask(SYS_WRITE, 2, (long)why, (long)length(why));
    ask(SYS_WRITE, 2, (long)"\n", 1);
    ask(SYS_EXIT, 127, 0, 0);
    __builtin_unreachable();
}

/* Writes HOME + MIDDLE + NAME + END to `out`, which holds LONGEST_PATH bytes. */
static char *join(char *out, const char *home, const char *middle, const char *name, const char *end)
{
    const char *parts[] = {home, middle, name, end};
    unsigned long at = 0;
    for (int part = 0; part < 4; part++)
        for (const char *from = parts[part]; *from; from++) {
            if (at == LONGEST_PATH - 1)
                stop("its path is too long");
            out[at++] = *from;
        }
    out[at] = 0;
    return out;
}

static char self[LONGEST_PATH], home[LONGEST_PATH], loader[LONGEST_PATH], libraries[LONGEST_PATH];
static char program[LONGEST_PATH], shown[LONGEST_PATH], script[LONGEST_PATH];
static char *words[MOST_ARGUMENTS + 16];

__attribute__((noreturn, used)) static void start(long *stack)
{
    long count = stack[0];
    char **arguments = (char **)(stack + 1);
    char **environment = arguments + count + 1;
    static const char python[] = "python3.11";

    if (count < 1 || count > MOST_ARGUMENTS)
        stop("too many arguments, or none");
    long size = ask(SYS_READLINK, (long)"/proc/self/exe", (long)self, LONGEST_PATH - 1);
    if (size <= 0 || size == LONGEST_PATH - 1)
        stop("/proc is not mounted");
    self[size] = 0;

    /* <home>/bin/<name> */
    unsigned long slash = (unsigned long)size;
    while (slash && self[slash] != '/')
        slash--;
    const char *name = self + slash + 1;
    self[slash] = 0;
    unsigned long above = slash;
    while (above && self[above] != '/')
        above--;
    for (unsigned long at = 0; at < above; at++)
        home[at] = self[at];

    int at = 0;
    words[at++] = join(loader, home, "/lib/ld-linux-x86-64.so.2", "", "");
    words[at++] = "--inhibit-cache";
    words[at++] = "--library-path";
    words[at++] = join(libraries, home, "/lib", "", "");
    words[at++] = "--argv0";
    int scripted = ask(SYS_ACCESS, (long)join(script, home, "/lib/programs/", name, ".pyc"), 0, 0) == 0;
    if (scripted || equal(name, python)) {
        words[at++] = join(shown, home, "/bin/", python, "");
        words[at++] = join(program, home, "/libexec/", python, "");
        words[at++] = "-I";
        words[at++] = "-S";
        words[at++] = "-B";
        if (scripted)
            words[at++] = script;
    } else {
        words[at++] = arguments[0];
        words[at++] = join(program, home, "/libexec/", name, "");
    }
    for (long argument = 1; argument < count; argument++)
        words[at++] = arguments[argument];
    words[at] = 0;
    ask(SYS_EXECVE, (long)loader, (long)words, (long)environment);
    stop(loader);
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start\n");
