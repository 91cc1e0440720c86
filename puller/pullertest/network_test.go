package pullertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestConnectionsInMemoryBehaveAsSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Network
		ln, err := n.Listen("host.example:0")
		require.NoError(t, err)
		_, err = n.Listen(ln.Addr().String())
		assert.ErrorIs(t, err, errAddrInUse)
		_, err = n.Listen("no port")
		assert.Error(t, err)
		_, err = n.DialContext(t.Context(), "udp", "host.example:1")
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = n.DialContext(ctx, "tcp", ln.Addr().String())
		assert.ErrorIs(t, err, context.DeadlineExceeded)

		accepted := make(chan net.Conn, 1)
		go func() {
			c, err := ln.Accept()
			assert.NoError(t, err)
			accepted <- c
		}()
		c, err := n.DialContext(t.Context(), "tcp", ln.Addr().String())
		require.NoError(t, err)
		s := <-accepted
		assert.Equal(t, ln.Addr().String(), c.RemoteAddr().String())
		assert.Equal(t, ln.Addr().String(), s.LocalAddr().String())

		// A deadline ends a read. When the deadline is removed, the connection works again.
		require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
		began := time.Now()
		_, err = c.Read(make([]byte, 1))
		var timeout net.Error
		require.ErrorAs(t, err, &timeout)
		assert.True(t, timeout.Timeout())
		assert.Equal(t, time.Minute, time.Since(began))
		sent, err := c.Write(make([]byte, 2*pipeSize))
		assert.Error(t, err)
		assert.Zero(t, sent, "the deadline has passed")
		require.NoError(t, c.SetDeadline(time.Time{}))

		// At most pipeSize bytes are in flight.
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Second)))
		sent, err = c.Write(bytes.Repeat([]byte("x"), 2*pipeSize))
		assert.Error(t, err)
		assert.Equal(t, pipeSize, sent)
		require.NoError(t, c.(*memConn).SetLinger(0))
		require.NoError(t, c.Close())
		got, err := io.ReadAll(s)
		assert.Len(t, got, pipeSize, "what was written before the reset arrives")
		assert.ErrorIs(t, err, errConnReset)
		_, err = s.Write([]byte("x"))
		assert.ErrorIs(t, err, errBrokenPipe)
		_, err = c.Read(make([]byte, 1))
		assert.ErrorIs(t, err, net.ErrClosed)
		_, err = c.Write([]byte("x"))
		assert.ErrorIs(t, err, net.ErrClosed)
		require.NoError(t, s.Close())
		require.NoError(t, ln.Close())
		require.NoError(t, ln.Close())
		_, err = ln.Accept()
		assert.ErrorIs(t, err, net.ErrClosed)
		_, err = n.DialContext(t.Context(), "tcp", ln.Addr().String())
		assert.ErrorIs(t, err, errConnRefused)
	})
}
