package scripted

import (
	"crypto/tls"
	"net"
	"syscall"
	"time"
	"unsafe"
)

// drain waits, for at most 3 s, until the kernel of the other end has all that was written
// to a socket, so that a test knows what has arrived before a reset.
func drain(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	t, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range 1500 {
		var unsent int32
		err := raw.Control(func(fd uintptr) {
			_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&unsent)))
		})
		if err != nil || unsent == 0 {
			return
		}
		<-tick.C
	}
}
