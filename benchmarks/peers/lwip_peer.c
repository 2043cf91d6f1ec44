/*
 * lwIP (Debian's liblwip, 2.1) as one end of the runs, on a TAP.
 *
 *     lwip_peer TAP ADDRESS KIND HOST PORT SECONDS WARM COUNT
 *
 * One thread reads the TAP and calls lwIP's raw interface under its core lock: no mailbox and no second thread in the
 * data's way, which is the fastest that this library offers. The kinds are those of kernel_peer.c, without the idle ones.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "figures.h"
#include "lwip/etharp.h"
#include "lwip/init.h"
#include "lwip/memp.h"
#include "lwip/netif.h"
#include "lwip/tcp.h"
#include "lwip/tcpip.h"
#include "netif/ethernet.h"

enum { FRAME = 1514, WRITE = 16 * 1460, READS = 32, ACTIVE = 4096 };

static int tap;
static struct job job;
static struct count count;
static double until;
static char buffer[CHUNK];
static int over;      /* the run is */
static int stopping;  /* no more is handed in */
static struct tcp_pcb *bulk;

/*
 * The library's elements of the pool for received packets are smaller than the PBUF_POOL_BUFSIZE that it fills them with:
 * the first bulk receive overflows its heap. Its table of pools is made to name a description with room.
 */
static void correct_pool(void) {
    static const struct memp_desc roomy = {2048};
    const struct memp_desc **entry = (const struct memp_desc **)&memp_pools[MEMP_PBUF_POOL];
    uintptr_t page = (uintptr_t)entry & -(uintptr_t)sysconf(_SC_PAGESIZE);
    if ((*entry)->size >= roomy.size)
        return;
    if (mprotect((void *)page, sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE) < 0)
        die("the pool");
    *entry = &roomy;
}

/* --- the device ----------------------------------------------------------------------------------------------------- */

static void open_tap(const char *name) {
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (tap < 0 || ioctl(tap, TUNSETIFF, &request) < 0)
        die("the TAP");
    int fd = socket(AF_INET, SOCK_DGRAM, 0); /* let its carrier come on now: see usertcp.link.device.activate */
    if (ioctl(fd, SIOCGIFTXQLEN, &request) == 0) {
        request.ifr_qlen++;
        ioctl(fd, SIOCSIFTXQLEN, &request);
        request.ifr_qlen--;
        ioctl(fd, SIOCSIFTXQLEN, &request);
    }
    close(fd);
}

static err_t transmit(struct netif *netif, struct pbuf *packet) {
    char frame[FRAME];
    (void)netif;
    const void *from = packet->payload;
    if (packet->next != NULL) {
        pbuf_copy_partial(packet, frame, sizeof frame, 0);
        from = frame;
    }
    return write(tap, from, packet->tot_len) < 0 ? ERR_BUF : ERR_OK;
}

static err_t begin(struct netif *netif) {
    static const u8_t mac[6] = {2, 0x6c, 0x77, 0x49, 0x50, 1};
    memcpy(netif->hwaddr, mac, sizeof mac);
    netif->hwaddr_len = sizeof mac;
    netif->mtu = 1500;
    netif->name[0] = 't';
    netif->name[1] = 'p';
    netif->output = etharp_output;
    netif->linkoutput = transmit;
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
    return ERR_OK;
}

static void receive(struct netif *netif) {
    char frame[FRAME + 4];
    for (int i = 0; i < READS; i++) {
        ssize_t size = read(tap, frame, sizeof frame);
        if (size <= 0) {
            if (i == 0) {
                struct pollfd ready = {.fd = tap, .events = POLLIN};
                UNLOCK_TCPIP_CORE();
                poll(&ready, 1, 100);
                LOCK_TCPIP_CORE();
            }
            return;
        }
        struct pbuf *packet = pbuf_alloc(PBUF_RAW, size, PBUF_POOL);
        if (packet == NULL)
            continue;
        pbuf_take(packet, frame, size);
        if (netif->input(packet, netif) != ERR_OK)
            pbuf_free(packet);
    }
}

/* --- the runs ------------------------------------------------------------------------------------------------------- */

static void failed(void *arg, err_t error) {
    (void)arg;
    fprintf(stderr, "lwip: error %d\n", error);
    exit(1);
}

static void put(struct tcp_pcb *pcb, const void *data, u16_t size) {
    if (tcp_write(pcb, data, size, TCP_WRITE_FLAG_COPY) != ERR_OK) {
        fprintf(stderr, "lwip: no room\n");
        exit(1);
    }
    tcp_output(pcb);
}

/* As much as the send buffer takes. */
static void fill(struct tcp_pcb *pcb) {
    while (!stopping && now() < until) {
        u16_t size = LWIP_MIN(tcp_sndbuf(pcb), WRITE);
        if (size == 0 || tcp_write(pcb, buffer, size, 0) != ERR_OK)
            break;
        count_add(&count, size, now());
    }
    tcp_output(pcb);
}

static err_t sent(void *arg, struct tcp_pcb *pcb, u16_t size) {
    (void)arg, (void)size;
    fill(pcb);
    return ERR_OK;
}

static void dial(void);

/* A connection has come to its end. */
static err_t ended(struct tcp_pcb *pcb) {
    if (strcmp(job.kind, "out") == 0) {
        over = 1;
        return ERR_OK;
    }
    tcp_err(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_close(pcb);
    if (strncmp(job.kind, "connect", 7) == 0) {
        count_add(&count, 1, now());
        dial();
    }
    return ERR_OK;
}

static err_t received(void *arg, struct tcp_pcb *pcb, struct pbuf *packet, err_t error) {
    (void)arg, (void)error;
    if (packet == NULL)
        return ended(pcb);
    u16_t size = packet->tot_len;
    if (strcmp(job.kind, "in") == 0) {
        pbuf_copy_partial(packet, buffer, size, 0); /* what an application has to do to have it */
        count_add(&count, size, now());
    } else if (strncmp(job.kind, "ping", 4) == 0) {
        count_add(&count, 1, now());
        put(pcb, "S", 1);
    } else if (strncmp(job.kind, "accept", 6) == 0)
        put(pcb, packet->payload, 1);
    tcp_recved(pcb, size);
    pbuf_free(packet);
    return ERR_OK;
}

static err_t connected(void *arg, struct tcp_pcb *pcb, err_t error) {
    (void)arg, (void)error;
    if (strcmp(job.kind, "out") == 0) {
        bulk = pcb;
        tcp_sent(pcb, sent);
        fill(pcb);
    } else if (strcmp(job.kind, "in") != 0)
        put(pcb, "S", 1);
    return ERR_OK;
}

static err_t accepted(void *arg, struct tcp_pcb *pcb, err_t error) {
    (void)arg, (void)error;
    tcp_recv(pcb, received);
    tcp_err(pcb, NULL);
    tcp_nagle_disable(pcb);
    return ERR_OK;
}

static void dial(void) {
    ip_addr_t there;
    struct tcp_pcb *pcb = tcp_new();
    ipaddr_aton(job.host, &there);
    tcp_nagle_disable(pcb);
    tcp_recv(pcb, received);
    tcp_err(pcb, failed);
    if (tcp_connect(pcb, &there, job.port, connected) != ERR_OK)
        failed(NULL, 0);
}

static void serve(void) {
    struct tcp_pcb *pcb = tcp_new();
    if (tcp_bind(pcb, IP_ADDR_ANY, job.port) != ERR_OK || (pcb = tcp_listen_with_backlog(pcb, 255)) == NULL)
        failed(NULL, 0);
    tcp_accept(pcb, accepted);
    puts("{\"ready\": true}");
    fflush(stdout);
    until = 1e18;
}

int main(int argc, char **argv) {
    struct netif netif;
    ip4_addr_t address, mask, none;
    if (argc != 9) {
        fprintf(stderr, "usage: lwip_peer TAP ADDRESS KIND HOST PORT SECONDS WARM COUNT\n");
        return 2;
    }
    job = (struct job){argv[3], argv[4], atoi(argv[5]), atof(argv[6]), atof(argv[7]), atoi(argv[8])};
    open_tap(argv[1]);
    correct_pool();
    tcpip_init(NULL, NULL); /* its thread runs the timers */
    ip4addr_aton(argv[2], &address);
    ip4addr_aton("255.255.255.0", &mask);
    ip4_addr_set_zero(&none);
    LOCK_TCPIP_CORE();
    memset(&netif, 0, sizeof netif);
    netif_add(&netif, &address, &mask, &none, NULL, begin, ethernet_input);
    netif_set_default(&netif);
    netif_set_up(&netif);
    count_begin(&count, job.warm);
    until = now() + job.warm + job.seconds;
    if (strncmp(job.kind, "accept", 6) == 0)
        serve();
    else
        for (int i = 0; i < job.count; i++)
            dial();
    while (!over) {
        receive(&netif);
        if (now() < until || stopping)
            continue;
        if (bulk == NULL)
            break;
        stopping = 1;
        tcp_shutdown(bulk, 0, 1);
    }
    count_say(&count, "");
    _exit(0);
}
