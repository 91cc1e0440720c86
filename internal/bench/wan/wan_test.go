package wan

import (
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const way = 50 * time.Millisecond

// ends are the two ends of a connection over a link.
type ends struct{ client, server net.Conn }

// connect relays a connection until the test ends. It must be called in a bubble of synctest, so
// that the link uses the time of the bubble and the test does not really wait.
func connect(t *testing.T, l *Link) ends {
	client, near := net.Pipe()
	far, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		l.Relay(near, far)
		close(done)
	}()
	t.Cleanup(func() {
		_, _ = client.Close(), server.Close()
		<-done
	})
	return ends{client, server}
}

// An arrival says how many bytes have come until some time.
type arrival struct {
	bytes int
	after time.Duration
}

// receive reads n bytes and returns when they came. Bytes that come at the same time are one
// arrival.
func receive(t *testing.T, conn net.Conn, began time.Time, n int) (all []arrival) {
	buf := make([]byte, readSize)
	for total := 0; total < n; {
		k, err := conn.Read(buf)
		require.NoError(t, err)
		total += k
		after := time.Since(began)
		if len(all) > 0 && all[len(all)-1].after == after {
			all = all[:len(all)-1]
		}
		all = append(all, arrival{total, after})
	}
	return all
}

func send(conn net.Conn, n int) { _, _ = conn.Write(make([]byte, n)) }

// TestTheDelayIsEachWayAndHoldsUpNothingElse: the first request arrives after the set-up of the
// connection. Bytes on their way do not delay the bytes after them.
func TestTheDelayIsEachWayAndHoldsUpNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, &Link{Delay: way})
		began := time.Now()
		go func() {
			for range 3 {
				send(c.client, 5)
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(270 * time.Millisecond)
			for range 3 {
				send(c.client, 5)
				time.Sleep(10 * time.Millisecond)
			}
		}()
		assert.Equal(t, []arrival{{15, 3 * way}}, receive(t, c.server, began, 15))
		assert.Equal(t, []arrival{
			{5, 350 * time.Millisecond}, {10, 360 * time.Millisecond}, {15, 370 * time.Millisecond},
		}, receive(t, c.server, began, 15))
		began = time.Now()
		go send(c.server, 5)
		assert.Equal(t, []arrival{{5, way}}, receive(t, c.client, began, 5))
	})
}

// TestTheWindowDoublesAfterEachRoundTrip: a connection starts with ten segments. After each
// round trip it may have twice as many bytes on their way, up to the limit of the window. After
// silence it may have fewer.
func TestTheWindowDoublesAfterEachRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, &Link{Delay: way, Window: 100_000, SlowStart: true})
		began := time.Now()
		go send(c.server, 1_000_000)
		steps := []arrival{}
		for total, window, after := 0, firstWindow, way; total < 1_000_000; after += 2 * way {
			total = min(total+window, 1_000_000)
			window = min(2*window, 100_000)
			steps = append(steps, arrival{total, after})
		}
		assert.Equal(t, steps, receive(t, c.client, began, 1_000_000))

		for _, tt := range []struct {
			silence time.Duration
			first   int // how many bytes then come without a wait
		}{
			{250 * time.Millisecond, 100_000}, // since the last bytes were sent: the delay, and 200 ms
			{350 * time.Millisecond, 50_000},
			{700 * time.Millisecond, 25_000},
			{time.Minute, firstWindow},
		} {
			time.Sleep(tt.silence - way)
			began := time.Now()
			go send(c.server, 200_000)
			assert.Equal(t, arrival{tt.first, way}, receive(t, c.client, began, 200_000)[0], tt.silence)
		}
	})
}

// TestWithoutSlowStartTheWholeWindowIsOpen: a connection has its whole window at once, and keeps
// it.
func TestWithoutSlowStartTheWholeWindowIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, &Link{Delay: way})
		for range 2 {
			began := time.Now()
			go send(c.server, DefaultWindow+1)
			assert.Equal(t, []arrival{{DefaultWindow, way}, {DefaultWindow + 1, 3 * way}}, receive(t, c.client, began, DefaultWindow+1))
			time.Sleep(time.Minute)
		}
	})
}

// TestTheWindowOfAQuietConnectionStaysSmall: a connection that sends little does not get a
// larger window.
func TestTheWindowOfAQuietConnectionStaysSmall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, &Link{Delay: way, SlowStart: true})
		for range 100 {
			began := time.Now()
			go send(c.server, 1000)
			receive(t, c.client, began, 1000)
			time.Sleep(2 * way)
		}
		began := time.Now()
		go send(c.server, 50_000)
		assert.Equal(t, firstWindow, receive(t, c.client, began, 50_000)[0].bytes)
	})
}

// TestConnectionsShareTheRateOfTheirServer: connections share the rate, and the rate does not
// limit what clients send.
func TestConnectionsShareTheRateOfTheirServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Link{Delay: way, Rate: 10_000_000, SlowStart: true}
		began := time.Now()
		var ended []time.Duration
		done := make(chan time.Duration)
		for range 4 {
			c := connect(t, l)
			go func() { send(c.server, 5_000_000) }()
			go func() {
				receive(t, c.client, began, 5_000_000)
				done <- time.Since(began)
			}()
		}
		for range 4 {
			ended = append(ended, <-done)
		}
		// Four windows fill ten megabytes a second after five round trips.
		assert.InDelta(t, 2, slices.Max(ended).Seconds(), 0.5)
		assert.GreaterOrEqual(t, slices.Max(ended), 2*time.Second+way)
		assert.InDelta(t, slices.Max(ended).Seconds(), slices.Min(ended).Seconds(), 0.5, "each has its share")

		c := connect(t, &Link{Rate: 1000})
		began = time.Now()
		go send(c.client, 10_000_000)
		receive(t, c.server, began, 10_000_000)
		assert.Zero(t, time.Since(began))
	})
}

// TestAStreamEndsAfterItsLastByte: the end of a stream comes after its last byte, and a closed
// side ends the other side.
func TestAStreamEndsAfterItsLastByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, &Link{Delay: way})
		began := time.Now()
		go func() {
			send(c.server, 5)
			_ = c.server.Close()
		}()
		receive(t, c.client, began, 5)
		_, err := c.client.Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.EOF)
		assert.Equal(t, way, time.Since(began))

		c = connect(t, &Link{Delay: way})
		require.NoError(t, c.client.Close())
		time.Sleep(time.Second)
		_, err = c.server.Write(make([]byte, 5))
		assert.ErrorIs(t, err, io.ErrClosedPipe)
	})
}

// TestALinkBetweenSocketsHasTheDelay tests sockets, in real time: a request and its answer take
// two round trips at least, and a closed client ends the server's side.
func TestALinkBetweenSocketsHasTheDelay(t *testing.T) {
	upstream, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	front, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &Link{Delay: 5 * time.Millisecond}
	served := make(chan error, 1)
	go func() {
		served <- l.Serve(front, func() (net.Conn, error) { return net.Dial("tcp", upstream.Addr().String()) })
	}()
	began := time.Now()
	client, err := net.Dial("tcp", front.Addr().String())
	require.NoError(t, err)
	server, err := upstream.Accept()
	require.NoError(t, err)
	send(client, 5)
	_, err = io.ReadFull(server, make([]byte, 5))
	require.NoError(t, err)
	send(server, 5)
	_, err = io.ReadFull(client, make([]byte, 5))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, time.Since(began), 2*l.RoundTrip())

	require.NoError(t, client.(*net.TCPConn).CloseWrite())
	_, err = server.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "a half that is closed leaves the other open")
	send(server, 5)
	_, err = io.ReadFull(client, make([]byte, 5))
	require.NoError(t, err)
	require.NoError(t, client.Close())
	for err == nil { // the relay notices that the client is closed when it cannot deliver bytes
		_, err = server.Write(make([]byte, readSize))
	}
	require.NoError(t, front.Close())
	assert.ErrorIs(t, <-served, net.ErrClosed)
}
