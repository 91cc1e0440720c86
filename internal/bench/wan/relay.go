package wan

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Serve relays each connection of listener over the link to a connection that dial
// makes. It returns when listener is closed. Open connections stay open.
func (l *Link) Serve(listener net.Listener, dial func() (net.Conn, error)) error {
	for {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			if server, err := dial(); err == nil {
				l.Relay(client, server)
			}
		}()
	}
}

// Relay carries bytes in both directions until both sides have ended their streams, or until a
// connection cannot be read or written. Then it closes both connections.
func (l *Link) Relay(client, server net.Conn) {
	open := time.Now().Add(l.RoundTrip())
	up := l.direction(client, server, func(int) time.Time {
		if now := time.Now(); now.After(open) {
			return now
		}
		return open
	})
	down := l.direction(server, client, l.passed)
	var both sync.WaitGroup
	for _, d := range []*direction{up, down} {
		both.Go(func() {
			if d.carry() != nil { // the other direction must not wait for ever
				_ = errors.Join(client.Close(), server.Close())
			}
		})
	}
	both.Wait()
	_ = errors.Join(client.Close(), server.Close())
}

// A direction is one of the two streams of a connection.
type direction struct {
	from, to net.Conn
	delay    time.Duration
	leaves   func(n int) time.Time // returns when n bytes that are sent now have left the sender
	window   *window
}

func (l *Link) direction(from, to net.Conn, leaves func(int) time.Time) *direction {
	return &direction{from, to, l.Delay, leaves, l.window()}
}

// A piece is a number of bytes on their way. A piece without data is the end of the stream.
type piece struct {
	data []byte
	at   time.Time // when the piece, or the acknowledgement of it, arrives
}

// readSize is how many bytes are read at a time, at most. queueSize is how many pieces may be on
// their way, which is more than a window has.
const (
	readSize  = 64 << 10
	queueSize = 16 << 10
)

// carry carries the stream. It returns nil after it has passed on the end of the stream.
func (d *direction) carry() error {
	pieces, acks := make(chan piece, queueSize), make(chan piece, queueSize)
	failed := make(chan error, 1) // of the writer
	var others sync.WaitGroup
	others.Go(func() {
		defer close(acks)
		failed <- d.write(pieces, acks)
	})
	others.Go(func() {
		for a := range acks {
			time.Sleep(time.Until(a.at))
			d.window.acknowledge(int64(len(a.data)))
		}
	})
	err := d.read(pieces)
	close(pieces)
	err = errors.Join(err, <-failed)
	others.Wait()
	return err
}

// read reads from the sender as the window allows, and sends the pieces and the end of the
// stream to write.
func (d *direction) read(pieces chan<- piece) error {
	for {
		data := make([]byte, readSize)
		n, err := d.from.Read(data)
		for data = data[:n]; len(data) > 0; {
			k := d.window.take(len(data))
			if k == 0 {
				return net.ErrClosed
			}
			pieces <- piece{data[:k], d.leaves(k).Add(d.delay)}
			data = data[k:]
		}
		if errors.Is(err, io.EOF) {
			pieces <- piece{nil, d.leaves(0).Add(d.delay)}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// write gives each piece to the receiver when it arrives, and acknowledges it.
func (d *direction) write(pieces <-chan piece, acks chan<- piece) error {
	for p := range pieces {
		time.Sleep(time.Until(p.at))
		if p.data == nil {
			return closeWrite(d.to)
		}
		if _, err := d.to.Write(p.data); err != nil {
			d.window.close()
			_ = d.from.Close() // wakes read
			for range pieces {
			}
			return err
		}
		acks <- piece{p.data, time.Now().Add(d.delay)}
	}
	return nil
}

// closeWrite passes on the end of the stream.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return conn.Close()
}
