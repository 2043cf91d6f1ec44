// gVisor's netstack (Debian's golang-gvisor-gvisor-dev) as one end of the runs, on a TAP.
//
//	gvisor_peer TAP ADDRESS KIND HOST PORT SECONDS WARM COUNT
//
// It is set up as its own users do: SACK, cubic, buffers that tune themselves, and segmentation at the device's door. The
// kinds are those of kernel_peer.c, without the idle ones.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/link/tun"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const (
	chunk  = 256 << 10 // bytes handed in or taken out at a time
	buffer = 4 << 20   // bytes that a buffer may grow to
	nic    = 1
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "gvisor:", err)
		os.Exit(1)
	}
}

func checkStack(err tcpip.Error) {
	if err != nil {
		check(errors.New(err.String()))
	}
}

// job is one run: what is done, with whom, for how long after a time that does not count, on how many connections.
type job struct {
	kind    string
	there   tcpip.FullAddress
	seconds float64
	warm    float64
	count   int
}

// figures is what was done since the warming up was over.
type figures struct {
	sync.Mutex
	warmUntil, until time.Time
	began            time.Time
	busy             float64
	amount           uint64
}

func (f *figures) add(amount int, at time.Time) {
	f.Lock()
	defer f.Unlock()
	if !f.began.IsZero() {
		f.amount += uint64(amount)
	} else if at.After(f.warmUntil) {
		f.began, f.busy = at, busy()
	}
}

func (f *figures) say() {
	seconds := time.Since(f.began).Seconds()
	fmt.Printf("{\"amount\": %d, \"seconds\": %.6f, \"cpu\": %.3f}\n", f.amount, seconds, busy()-f.busy)
	os.Exit(0)
}

// busy is how many seconds all processors together were busy since boot.
func busy() float64 {
	text, err := os.ReadFile("/proc/stat")
	check(err)
	line, _, _ := strings.Cut(string(text), "\n")
	sum := 0.0
	for place, word := range strings.Fields(line)[1:8] {
		value, err := strconv.ParseFloat(word, 64)
		check(err)
		if place != 3 && place != 4 { // idle, iowait
			sum += value
		}
	}
	return sum / 100
}

// carrier lets the device, to which somebody has just attached, transmit at once: the change of its queue does it.
func carrier(name string) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	check(err)
	defer unix.Close(fd)
	var request struct {
		name  [16]byte
		value int32
		_     [20]byte
	}
	copy(request.name[:], name)
	call := func(number uintptr) {
		unix.Syscall(unix.SYS_IOCTL, uintptr(fd), number, uintptr(unsafe.Pointer(&request)))
	}
	call(unix.SIOCGIFTXQLEN)
	request.value++
	call(unix.SIOCSIFTXQLEN)
	request.value--
	call(unix.SIOCSIFTXQLEN)
}

func opened(device, address string) *stack.Stack {
	fd, err := tun.OpenTAP(device)
	check(err)
	carrier(device)
	endpoint, err := fdbased.New(&fdbased.Options{
		FDs:              []int{fd},
		MTU:              1500,
		EthernetHeader:   true,
		Address:          tcpip.LinkAddress("\x02\x67\x56\x69\x73\x01"),
		GSOMaxSize:       65536,
		GvisorGSOEnabled: true,
	})
	check(err)
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	sack, moderate, cubic := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true), tcpip.CongestionControlOption("cubic")
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: 1 << 20, Max: buffer}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: 1 << 20, Max: buffer}
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &cubic, &receive, &send} {
		checkStack(s.SetTransportProtocolOption(tcp.ProtocolNumber, option))
	}
	checkStack(s.CreateNIC(nic, endpoint))
	own := tcpip.Address(net.ParseIP(address).To4()).WithPrefix()
	checkStack(s.AddProtocolAddress(nic, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: own}, stack.AddressProperties{}))
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	return s
}

func dial(s *stack.Stack, j job) net.Conn {
	conn, err := gonet.DialTCP(s, j.there, ipv4.ProtocolNumber)
	check(err)
	return conn
}

func bulkIn(s *stack.Stack, j job, f *figures) {
	conn, data := dial(s, j), make([]byte, chunk)
	for at := time.Now(); at.Before(f.until); at = time.Now() {
		count, err := conn.Read(data)
		check(err)
		f.add(count, at)
	}
}

func bulkOut(s *stack.Stack, j job, f *figures) {
	conn, data := dial(s, j), make([]byte, chunk)
	for at := time.Now(); at.Before(f.until); at = time.Now() {
		count, err := conn.Write(data)
		check(err)
		f.add(count, at)
	}
	check(conn.(*gonet.TCPConn).CloseWrite())
	if _, err := conn.Read(data); err != io.EOF { // the sink closes when it has everything
		check(err)
	}
}

// together runs work on every connection at once, and ends when the first of them is done.
func together(j job, work func()) {
	done := make(chan bool, j.count)
	for i := 0; i < j.count; i++ {
		go func() {
			work()
			done <- true
		}()
	}
	<-done
}

func ping(s *stack.Stack, j job, f *figures) {
	together(j, func() {
		conn, data := dial(s, j), []byte("S")
		for at := time.Now(); at.Before(f.until); at = time.Now() {
			_, err := conn.Write(data)
			check(err)
			_, err = io.ReadFull(conn, data)
			check(err)
			f.add(1, at)
		}
	})
}

func connect(s *stack.Stack, j job, f *figures) {
	together(j, func() {
		for at := time.Now(); at.Before(f.until); at = time.Now() {
			conn, data := dial(s, j), []byte("S")
			_, err := conn.Write(data)
			check(err)
			_, err = io.ReadFull(conn, data)
			check(err)
			if _, err = conn.Read(data); err != io.EOF {
				check(err)
			}
			conn.Close()
			f.add(1, at)
		}
	})
}

func accept(s *stack.Stack, j job) {
	listener, err := gonet.ListenTCP(s, tcpip.FullAddress{NIC: nic, Port: j.there.Port}, ipv4.ProtocolNumber)
	check(err)
	fmt.Println("{\"ready\": true}")
	for {
		conn, err := listener.Accept()
		check(err)
		go func() {
			defer conn.Close()
			io.Copy(conn, conn)
		}()
	}
}

func number(text string) float64 {
	value, err := strconv.ParseFloat(text, 64)
	check(err)
	return value
}

func main() {
	if len(os.Args) != 9 {
		check(errors.New("usage: gvisor_peer TAP ADDRESS KIND HOST PORT SECONDS WARM COUNT"))
	}
	words := os.Args[1:]
	s := opened(words[0], words[1])
	there := tcpip.FullAddress{NIC: nic, Addr: tcpip.Address(net.ParseIP(words[3]).To4()), Port: uint16(number(words[4]))}
	j := job{words[2], there, number(words[5]), number(words[6]), int(number(words[7]))}
	f := &figures{warmUntil: time.Now().Add(time.Duration(j.warm * 1e9))}
	f.until = f.warmUntil.Add(time.Duration(j.seconds * 1e9))
	switch j.kind {
	case "in":
		bulkIn(s, j, f)
	case "out":
		bulkOut(s, j, f)
	case "ping", "ping-many":
		ping(s, j, f)
	case "connect", "connect-many":
		connect(s, j, f)
	case "accept", "accept-many":
		accept(s, j)
	default:
		check(errors.New("there is no run " + j.kind))
	}
	f.say()
}
