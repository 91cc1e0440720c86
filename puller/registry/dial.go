package registry

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

const (
	// dialStagger is how long an address of a name has before the next one is tried
	// beside it (RFC 8305, section 5).
	dialStagger = 250 * time.Millisecond
	// maxAddresses is how many addresses of a name are tried.
	maxAddresses = 16
)

// dialName connects to one of the addresses of a name. An address that is silent costs
// the others little: they are tried beside it, all of them within the limit. net.Dialer
// would give the first one two seconds at least, and with a shorter limit the second one
// is never tried.
func dialName(ctx context.Context, network, addr string, limit time.Duration, check func(netip.Addr) error) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	addresses := []netip.Addr{}
	if literal, err := netip.ParseAddr(host); err == nil {
		addresses = append(addresses, literal)
	} else if addresses, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if len(addresses) == 0 {
		return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no address", Name: host}}
	}
	addresses = addresses[:min(len(addresses), maxAddresses)]
	if end, ok := ctx.Deadline(); ok { // the caller's may come before the limit, and the look-up took time
		limit = time.Until(end)
	}
	d := net.Dialer{ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		if check == nil {
			return nil
		}
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("address %.80q cannot be checked: %w", address, err)
		}
		return caught(func() error { return check(ap.Addr()) })
	}}
	return race(ctx, limit, addresses, func(ctx context.Context, a netip.Addr) (net.Conn, error) {
		return d.DialContext(ctx, network, net.JoinHostPort(a.Unmap().String(), port))
	})
}

// race dials addresses one after another, the next one when the last one has failed or
// has taken its time, and returns the first connection. If there is none, the error is
// that of the first address.
func race(ctx context.Context, limit time.Duration, addresses []netip.Addr, dial func(context.Context, netip.Addr) (net.Conn, error)) (net.Conn, error) {
	type result struct {
		at   int
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan result, len(addresses))
	// Half of the limit is left for the last one.
	pause := max(time.Millisecond, min(dialStagger, limit/time.Duration(2*len(addresses))))
	stagger := time.NewTimer(pause)
	defer stagger.Stop()
	begun, ended, first := 0, 0, result{at: len(addresses)}
	for {
		if begun < len(addresses) {
			at := begun
			begun++
			go func() {
				conn, err := dial(ctx, addresses[at])
				results <- result{at, conn, err}
			}()
			stagger.Reset(pause)
		}
		for next := false; !next; {
			select {
			case r := <-results:
				ended++
				if r.err == nil {
					go func() { // the others end with ctx; one may have connected meanwhile
						for range begun - ended {
							if r := <-results; r.conn != nil {
								_ = r.conn.Close()
							}
						}
					}()
					return r.conn, nil
				}
				if r.at < first.at {
					first = r
				}
				if ended == len(addresses) {
					return nil, first.err
				}
				next = begun < len(addresses)
			case <-stagger.C:
				next = begun < len(addresses)
			}
		}
	}
}
