package transfer

import "time"

// A writer writes what a connection has read, one buffer at a time. As long as
// there are processors to spare it does so beside the reading of the next one: a
// single connection would stand still meanwhile.
type writer struct {
	pipe *pipe
	conn *conn
	done chan error // of the write under way
	busy bool       // there is one
}

// write writes buf, which is the writer's from now on, or begins to. The error may
// be of the write before.
func (w *writer) write(buf []byte, off int64) error {
	if err := w.wait(); err != nil || len(buf) == 0 {
		w.pipe.t.rt.pool.put(buf)
		return err
	}
	if !w.pipe.t.rt.lanes.few() {
		return w.now(buf, off)
	}
	if w.done == nil {
		w.done = make(chan error, 1)
	}
	w.busy = true
	go func() { w.done <- w.now(buf, off) }()
	return nil
}

// wait returns when nothing is being written, with the error of what was.
func (w *writer) wait() error {
	if !w.busy {
		return nil
	}
	w.busy = false
	return <-w.done
}

func (w *writer) now(buf []byte, off int64) error {
	began := time.Now()
	if err := w.pipe.t.writeAt(buf, off); err != nil {
		w.pipe.t.rt.pool.put(buf)
		return err
	}
	w.pipe.wrote(w.conn, buf, time.Since(began))
	return nil
}
