package registry

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/panics"
	"github.com/pullkit/pullkit/puller/content"
)

// Package net calls AllowAddr in another goroutine. A panic of AllowAddr becomes an error
// there, and roundTrip panics with that error in the caller's goroutine.
func TestAPanicOfAllowAddrBecomesAnError(t *testing.T) {
	cause := errors.New("AllowAddr panicked")
	ep := &endpoint{registry: "public.example", client: newClient(t, Config{AllowAddr: func(string, netip.Addr) bool { panic(cause) }})}
	_, err := ep.connect(t.Context(), "tcp", "127.0.0.1:1", func(a netip.Addr) error { return ep.checkAddr(a, false) })
	var panicked *panics.Error
	require.ErrorAs(t, err, &panicked)
	assert.ErrorIs(t, panicked, cause)
}

// If the first address of a name does not answer, the second address is tried well before
// the stall time is over, for every stall time.
func TestTheSecondAddressIsTriedWhileTheFirstIsSilent(t *testing.T) {
	silent, good, refused := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	errRefused := errors.New("connection refused")
	dial := func(ctx context.Context, a netip.Addr) (net.Conn, error) {
		switch a {
		case good:
			client, _ := net.Pipe()
			return client, nil
		case refused:
			return nil, errRefused
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for _, limit := range []time.Duration{10 * time.Millisecond, 300 * time.Millisecond, time.Second, 4 * time.Second, 15 * time.Second} {
		for _, list := range [][]netip.Addr{{good}, {silent, good}, {refused, good}, {silent, silent, refused, good}, {refused, silent, silent, silent, silent, silent, silent, good}} {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				conn, err := race(t.Context(), limit, list, dial)
				require.NoError(t, err, "%v %v", limit, list)
				assert.NoError(t, conn.Close())
				assert.LessOrEqual(t, time.Since(began), limit*2/3+8*time.Millisecond)
				synctest.Wait()
			})
		}
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			_, err := race(ctx, limit, []netip.Addr{refused, silent}, dial)
			assert.ErrorIs(t, err, errRefused, "the error of the first address")
			_, err = race(ctx, limit, []netip.Addr{silent, silent}, dial)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
}

// This is TestTheSecondAddressIsTriedWhileTheFirstIsSilent with a real resolver and real
// connections.
func TestTheSecondAddressOfARealNameIsTried(t *testing.T) {
	resolver := net.DefaultResolver
	defer func() { net.DefaultResolver = resolver }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go answerDNS(server, netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1"))
		return client, nil
	}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	for _, stall := range []time.Duration{5 * time.Second, 15 * time.Second} {
		silence := make(chan struct{})
		var tried []string
		var mu sync.Mutex
		ep := &endpoint{registry: "two.example", client: newClient(t, Config{StallTimeout: stall})}
		conn, err := ep.connect(t.Context(), "tcp", "two.example.:"+port, func(a netip.Addr) error {
			mu.Lock()
			tried = append(tried, a.String())
			first := len(tried) == 1
			mu.Unlock()
			if first { // the first address does not answer
				select {
				case <-silence:
				case <-time.After(stall):
				}
			}
			return nil
		})
		close(silence)
		if assert.NoError(t, err) {
			assert.NoError(t, conn.Close())
		}
		mu.Lock()
		assert.Len(t, tried, 2)
		mu.Unlock()
	}
	ep := &endpoint{registry: "two.example", client: newClient(t, Config{})}
	_, err = ep.connect(t.Context(), "tcp", "two.example.:"+port, func(a netip.Addr) error { return ep.checkAddr(a, false) })
	assert.ErrorIs(t, err, content.ErrForbiddenURL, "each address is checked")
}

// answerDNS answers queries for A records over a stream (RFC 1035, section 4.2.2).
func answerDNS(conn net.Conn, addresses ...netip.Addr) {
	defer conn.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		end := 12
		for query[end] != 0 {
			end += int(query[end]) + 1
		}
		question := query[12 : end+5]
		reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
		if question[len(question)-3] == 1 { // A
			reply[7] = byte(len(addresses))
			for _, a := range addresses {
				b := a.As4()
				reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4)
				reply = append(reply, b[:]...)
			}
		}
		reply = append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)
		if _, err := conn.Write(reply); err != nil {
			return
		}
	}
}
