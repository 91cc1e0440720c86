package main

import (
	"errors"
	"io"
)

// bufferSize is the size of a buffer, and buffers their number for each blob.
const (
	bufferSize = 256 << 10
	buffers    = 8
)

// copyInline reads, writes and hashes in turn.
func copyInline(w, hash io.Writer, r io.Reader) error {
	buf := make([]byte, bufferSize)
	for {
		n, err := r.Read(buf)
		hash.Write(buf[:n])
		if _, werr := w.Write(buf[:n]); werr != nil {
			return werr
		}
		if err != nil {
			return ended(err)
		}
	}
}

// copyPipe hashes in a second goroutine, in parallel with reading and writing.
func copyPipe(w, hash io.Writer, r io.Reader) error {
	free, full := make(chan []byte, buffers), make(chan []byte, buffers)
	for range buffers {
		free <- make([]byte, bufferSize)
	}
	hashed := make(chan struct{})
	go func() {
		defer close(hashed)
		for buf := range full {
			hash.Write(buf)
			free <- buf[:cap(buf)]
		}
	}()
	err := fill(w, r, free, full)
	close(full)
	<-hashed
	return err
}

// fill reads into free buffers, writes them and sends them to full.
func fill(w io.Writer, r io.Reader, free <-chan []byte, full chan<- []byte) error {
	for {
		buf := <-free
		n, err := io.ReadFull(r, buf)
		if _, werr := w.Write(buf[:n]); werr != nil {
			return werr
		}
		full <- buf[:n]
		if err != nil {
			return ended(err)
		}
	}
}

// ended returns nil if err is the end of the content. The digest shows whether the content was
// cut off.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
