package rootfs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func chunkOf(data []byte) *chunk {
	c := newChunk(1)
	c.buf = c.buf[:copy(c.buf, data)]
	return c
}

// A spool returns the chunks in the order in which they were put into it, whether the reader is
// slower or faster than the writer, and whether the chunks come from memory or from a file.
func TestASpoolKeepsTheOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		files := 0
		all := newSpools(func() (*os.File, error) { files++; return os.CreateTemp(t.TempDir(), "") })
		all.starving = random.IntN(2) == 0
		s := &spool{spools: all}
		var want bytes.Buffer
		before := random.IntN(20) // chunks before the layer is applied
		if !all.starving {
			before = min(before, maxQueue)
		}
		put := func(n int) {
			for range n {
				data := bytes.Repeat([]byte{byte(random.IntN(256))}, 1+random.IntN(chunkSize))
				want.Write(data)
				assert.NoError(t, s.put(chunkOf(data)))
			}
		}
		put(before)
		after := random.IntN(20)
		go func() {
			put(after)
			s.end(nil)
		}()
		s.begin()
		got, err := io.ReadAll(&spoolReader{s: s})
		require.NoError(t, err)
		require.Equal(t, want.Bytes(), got)
		assert.Equal(t, before > maxQueue, files > 0)
		s.leave()
		s.close()
	}
}

// While the layer that is being applied has bytes ready, the other layers do not write into
// files.
func TestOtherLayersWaitWhileBytesAreReady(t *testing.T) {
	all := newSpools(func() (*os.File, error) { return os.CreateTemp(t.TempDir(), "") })
	first, second := &spool{spools: all}, &spool{spools: all}
	first.begin()
	require.NoError(t, first.put(chunkOf([]byte("1"))))
	put := make(chan error)
	go func() {
		for range maxQueue + 1 {
			put <- second.put(chunkOf([]byte("2")))
		}
	}()
	for range maxQueue {
		require.NoError(t, <-put)
	}
	in := &spoolReader{s: first}
	one := make([]byte, 1)
	_, err := in.Read(one)
	require.NoError(t, err)
	select {
	case <-put:
		t.Fatal("the layer was written to a file")
	default:
	}
	read := make(chan error)
	go func() {
		_, err := in.Read(one) // waits, so the second layer goes on
		read <- err
	}()
	require.NoError(t, <-put)
	first.end(nil)
	assert.Equal(t, io.EOF, <-read)
	assert.EqualValues(t, 1, second.written)
	second.leave()
	second.close()
}

func TestTheEndOfASpoolReachesReaderAndWriter(t *testing.T) {
	all := newSpools(func() (*os.File, error) { return nil, syscall.ENOSPC })
	s := &spool{spools: all}
	all.starving = true
	for range maxQueue {
		require.NoError(t, s.put(chunkOf([]byte("x"))))
	}
	assert.ErrorIs(t, s.put(chunkOf([]byte("x"))), syscall.ENOSPC)
	s.end(syscall.ENOSPC)
	in := &spoolReader{s: s}
	_, err := io.ReadAll(in)
	assert.ErrorIs(t, err, syscall.ENOSPC)
	_, err = in.Read(make([]byte, 1))
	assert.ErrorIs(t, err, syscall.ENOSPC, "again")

	full := &spool{spools: all}
	full.begin()
	for range maxQueue {
		require.NoError(t, full.put(chunkOf([]byte("x"))))
	}
	done := make(chan error)
	go func() { done <- full.put(chunkOf([]byte("x"))) }()
	full.leave()
	assert.Equal(t, errLeft, <-done)
	assert.True(t, errors.Is(errLeft, io.ErrClosedPipe))
}
