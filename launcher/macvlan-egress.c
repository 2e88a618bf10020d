/* The plugin's executable on a node that runs `macvlan-egress daemon`: hands a CNI call over and prints the answer.
 *
 * Static and without libraries beyond libc, so that it starts in well under a millisecond on any host, with or without
 * Python. The protocol is described in cni_macvlan_egress/daemon/frames.py. If the daemon is away, the call is served
 * directly by the Python executable if there is one, and else answered by an error: try again later.
 *
 * A call is never handed over twice if the daemon may have begun it. It begins when it has read the whole request, and
 * the kernel tells: a connection that ends with something unread is reset (ECONNRESET, EPIPE), else it just ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PROTOCOL = 1, STDIN_MAX = 8 << 20, ENVIRONMENT_MAX = 8 << 20, ANSWER_MAX = 16 << 20 };
enum { IO_FAILURE = 5, TRY_AGAIN_LATER = 11, NOT_AVAILABLE = 50 }; /* CNI error codes */
enum { RESTART_MS = 5000, QUEUE_MS = 10000, PAUSE_MS = 20 };
enum { DIRECT_MAX = 1024 };
#define MAGIC "MVEG"

extern char **environ;

/* `macvlan-egress launcher --native` writes a node's own values behind the mark (cni_macvlan_egress/admin/launcher.py). */
static volatile const struct {
    char mark[16];
    char socket[108];
    char direct[DIRECT_MAX]; /* executable of direct mode; empty if the host has none */
    uint32_t deadline_ms;
} settings = {"MVEGRESS-CONFIG", "/run/macvlan-egress/daemon.sock", "", 90000};

/* The same in every version of the protocol, so that one can always be told from another. */
struct head {
    char magic[4];
    uint16_t version;
    uint16_t status; /* of an answer: the exit status */
    uint32_t first;  /* bytes of environment; of stdout */
    uint32_t second; /* bytes of stdin; of stderr */
};

struct input {
    char *data;
    size_t size;
    int taken; /* whether stdin has been read, so that whoever is executed next needs it anew */
};

enum outcome { ANSWERED, NOT_BEGUN, LOST };

static const char *verb;
static const char *asked = "1.1.0"; /* the CNI version that an error is to be of */
static struct timespec start;

static int gone_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t gone = (int64_t)(now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000;
    return gone > INT32_MAX ? INT32_MAX : (int)gone;
}

static int left_ms(void) {
    int64_t left = (int64_t)settings.deadline_ms - gone_ms();
    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

static void setting(char *to, const volatile char *from, size_t size) {
    for (size_t at = 0; at < size; at++)
        to[at] = from[at];
    to[size - 1] = 0;
}

static int write_all(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t done = write(fd, data, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && errno == EAGAIN) { /* somebody has made it non-blocking */
            struct pollfd waiting = {.fd = fd, .events = POLLOUT};
            poll(&waiting, 1, PAUSE_MS);
            continue;
        }
        if (done <= 0)
            return -1;
        data += done;
        size -= (size_t)done;
    }
    return 0;
}

/* The texts are our own and strerror()'s: nothing in them needs escaping. */
static int fail(int code, const char *message, const char *reason) {
    char text[1024];
    const char *colon = *reason ? ": " : "", *advice = code == IO_FAILURE ? "" : "; try again later";
    int size = snprintf(text, sizeof text, "{\"cniVersion\": \"%s\", \"code\": %d, \"msg\": \"%s%s%s%s\"}\n", asked, code,
                        message, colon, reason, advice);
    write_all(1, text, (size_t)size);
    size = snprintf(text, sizeof text, "macvlan-egress: %s%s%s%s\n", message, colon, reason, advice);
    write_all(2, text, (size_t)size);
    return 1;
}

/* STATUS has a code of its own for a plugin that cannot serve (CNI specification, section "Error"). */
static int away(const char *message, const char *reason) {
    return fail(strcmp(verb, "STATUS") ? TRY_AGAIN_LATER : NOT_AVAILABLE, message, reason);
}

/* The value of "cniVersion", without parsing: if it is none that there is, the latest is as good as any. */
static void find_version(const struct input *input) {
    static const char *const known[] = {"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};
    static const char key[] = "\"cniVersion\"";
    const char *at = input->size ? memmem(input->data, input->size, key, sizeof key - 1) : NULL;
    if (!at)
        return;
    const char *end = input->data + input->size;
    for (at += sizeof key - 1; at < end && *at && strchr(" \t\r\n:\"", *at); at++)
        ;
    for (size_t one = 0; one < sizeof known / sizeof *known; one++) {
        size_t length = strlen(known[one]);
        if ((size_t)(end - at) > length && !memcmp(at, known[one], length) && at[length] == '"')
            asked = known[one];
    }
}

/* Everything on stdin, or one byte more than the plugin takes, which says so itself. */
static int read_stdin(struct input *input) {
    size_t room = 1 << 16;
    input->taken = 1;
    input->data = malloc(room);
    while (input->data) {
        if (input->size == room) {
            room *= 2;
            char *more = realloc(input->data, room);
            if (!more)
                break;
            input->data = more;
        }
        size_t wanted = room - input->size;
        if (wanted > STDIN_MAX + 1 - input->size)
            wanted = STDIN_MAX + 1 - input->size;
        if (!wanted)
            return 0;
        struct pollfd waiting = {.fd = 0, .events = POLLIN};
        int ready = poll(&waiting, 1, left_ms());
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0)
            errno = ETIMEDOUT;
        if (ready <= 0)
            return -1;
        ssize_t got = read(0, input->data + input->size, wanted);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0)
            return (int)got;
        input->size += (size_t)got;
    }
    errno = ENOMEM;
    return -1;
}

static void set_timeout(int fd, int option, int milliseconds) {
    /* 0 would be for ever. */
    struct timeval limit = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000 + 1};
    setsockopt(fd, SOL_SOCKET, option, &limit, sizeof limit);
}

static int connect_daemon(int has_direct) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    setting(address.sun_path, settings.socket, sizeof address.sun_path);
    int waiting = gone_ms();
    for (;;) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            return -1;
        /* If its queue is full, the kernel wakes us when there is room. */
        set_timeout(fd, SO_SNDTIMEO, left_ms() < QUEUE_MS ? left_ms() : QUEUE_MS);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
            return fd;
        int error = errno;
        close(fd);
        errno = error;
        if (error == EINTR)
            continue;
        /* While it is restarted it is away for a moment; direct mode need not wait for that. */
        int passing = (error == ENOENT || error == ECONNREFUSED) && !has_direct;
        if (!passing || gone_ms() - waiting >= RESTART_MS || !left_ms())
            return -1;
        poll(NULL, 0, PAUSE_MS);
    }
}

static int send_all(int fd, struct iovec *parts, size_t count) {
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    for (;;) {
        while (message.msg_iovlen && !message.msg_iov->iov_len) {
            message.msg_iov++;
            message.msg_iovlen--;
        }
        if (!message.msg_iovlen)
            return 0;
        ssize_t done = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -1;
        for (struct iovec *part = message.msg_iov; done; part++) {
            size_t of_it = (size_t)done < part->iov_len ? (size_t)done : part->iov_len;
            part->iov_base = (char *)part->iov_base + of_it;
            part->iov_len -= of_it;
            done -= (ssize_t)of_it;
        }
    }
}

static int send_request(int fd, const struct input *input) {
    struct head head = {.version = PROTOCOL, .second = (uint32_t)input->size};
    memcpy(head.magic, MAGIC, sizeof head.magic);
    size_t length = 0;
    for (char **one = environ; *one; one++)
        length += strlen(*one) + 1;
    if (length > ENVIRONMENT_MAX) {
        errno = E2BIG;
        return -1;
    }
    char *block = malloc(length + 1), *end = block;
    if (!block)
        return -1;
    for (char **one = environ; *one; one++)
        end = stpcpy(end, *one) + 1;
    head.first = (uint32_t)length;
    struct iovec parts[] = {{&head, sizeof head}, {block, length}, {input->data, input->size}};
    int status = send_all(fd, parts, 3), error = errno;
    free(block);
    errno = error;
    return status;
}

/* How much came before the end, an error (errno) or the deadline; errno is 0 at an end. */
static size_t receive(int fd, char *data, size_t size) {
    size_t have = 0;
    errno = 0;
    while (have < size) {
        struct pollfd waiting = {.fd = fd, .events = POLLIN};
        int ready = poll(&waiting, 1, left_ms());
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0)
            errno = ETIMEDOUT;
        if (ready <= 0)
            break;
        ssize_t got = recv(fd, data + have, size - have, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = 0;
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    return have;
}

static const char *ending(void) { return errno ? strerror(errno) : "it has ended"; }

/* One conversation; in the end `status` is the exit status, if there has been an answer or never will be. */
static enum outcome converse(int fd, const struct input *input, int has_stdout, int *status) {
    struct head head;
    /* One that refuses the call need not read all of it: its answer may be there although sending has failed. */
    int unsent = send_request(fd, input) ? errno : 0;
    size_t got = unsent && unsent != EPIPE && unsent != ECONNRESET ? 0 : receive(fd, (char *)&head, sizeof head);
    if (got < sizeof head) {
        if (unsent || (got == 0 && errno == ECONNRESET)) {
            errno = unsent ? unsent : ECONNRESET;
            return NOT_BEGUN;
        }
        *status = away("the daemon of macvlan-egress gave no answer", ending());
        return LOST;
    }
    *status = 1;
    if (memcmp(head.magic, MAGIC, sizeof head.magic) || head.version != PROTOCOL) {
        away("the daemon of macvlan-egress is of another version than its launcher; write the launcher anew "
             "(macvlan-egress launcher --native) or restart the daemon", "");
        return LOST;
    }
    if (head.first > ANSWER_MAX || head.second > ANSWER_MAX || head.status > 255 || (head.status && !head.first)) {
        away("the daemon of macvlan-egress gave an answer that makes no sense", "");
        return LOST;
    }
    size_t length = (size_t)head.first + head.second;
    char *answer = malloc(length + 1);
    if (!answer || receive(fd, answer, length) < length) {
        away("the answer of the daemon of macvlan-egress ended too early", answer ? ending() : strerror(ENOMEM));
        return LOST;
    }
    *status = head.status;
    /* An answer that cannot be heard is a failure, whatever it says. */
    errno = EBADF;
    if (head.first && (!has_stdout || write_all(1, answer, head.first))) {
        char text[256];
        int size = snprintf(text, sizeof text, "macvlan-egress: cannot write the answer to stdout: %s\n", strerror(errno));
        write_all(2, text, (size_t)size);
        *status = 1;
    }
    write_all(2, answer + head.first, head.second);
    return ANSWERED;
}

/* Be the plugin of direct mode; returns only if that is not possible. */
static void go_direct(const char *direct, char **arguments, const struct input *input) {
    if (!*direct)
        return;
    if (input->taken) {
        int file = memfd_create("stdin", 0); /* without MFD_CLOEXEC: it is to be stdin */
        if (file < 0 || write_all(file, input->data, input->size) || lseek(file, 0, SEEK_SET) || dup2(file, 0) < 0)
            return;
        if (file)
            close(file);
    }
    signal(SIGPIPE, SIG_DFL);
    execv(direct, arguments);
}

/* The numbers 0 to 2 must not be given to a socket; whoever is executed finds them as closed as we did. */
static void hold_numbers(int open_before[3]) {
    for (int fd = 0; fd < 3; fd++) {
        open_before[fd] = fcntl(fd, F_GETFD) >= 0;
        if (!open_before[fd])
            (void)!open("/dev/null", O_RDWR | O_CLOEXEC);
    }
}

int main(int count, char **arguments) {
    (void)count;
    int open_before[3];
    char direct[DIRECT_MAX];
    struct input input = {0};
    clock_gettime(CLOCK_MONOTONIC, &start);
    hold_numbers(open_before);
    signal(SIGPIPE, SIG_IGN);
    setting(direct, settings.direct, sizeof direct);
    verb = getenv("CNI_COMMAND");
    if (!verb) {
        go_direct(direct, arguments, &input);
        static const char text[] =
            "macvlan-egress: this is the CNI plugin's launcher; container runtimes run it with CNI_COMMAND set. The "
            "command line is where the daemon is installed\n";
        write_all(2, text, sizeof text - 1);
        return 2;
    }
    if (strcmp(verb, "VERSION")) {
        if (read_stdin(&input)) {
            int code = errno == ETIMEDOUT || errno == ENOMEM ? TRY_AGAIN_LATER : IO_FAILURE;
            return fail(code, "stdin cannot be read", strerror(errno));
        }
        find_version(&input);
    }
    int resets = 0, status = 1;
    do {
        int fd = connect_daemon(*direct != 0);
        if (fd < 0)
            break;
        if (converse(fd, &input, open_before[1], &status) != NOT_BEGUN)
            return status;
        int error = errno;
        close(fd);
        poll(NULL, 0, resets++ ? PAUSE_MS : 0);
        errno = error;
    } while ((errno == EPIPE || errno == ECONNRESET) && resets * PAUSE_MS < RESTART_MS && left_ms());
    int error = errno;
    go_direct(direct, arguments, &input);
    return away("the daemon of macvlan-egress does not answer at its socket", strerror(error));
}
