package transfer

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
	beside := w.pipe.t.rt.lanes.write()
	if !beside {
		return w.now(buf, off, beside)
	}
	if w.done == nil {
		w.done = make(chan error, 1)
	}
	w.busy = true
	go func() {
		err := w.now(buf, off, beside)
		if err != nil {
			w.conn.cancel() // what is being read is of no use, and may be long in coming
		}
		w.done <- err
	}()
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

func (w *writer) now(buf []byte, off int64, beside bool) error {
	err := w.pipe.t.writeAt(buf, off)
	w.pipe.t.rt.lanes.written(beside)
	if err != nil {
		w.pipe.t.rt.pool.put(buf)
		return err
	}
	w.pipe.wrote(w.conn, buf)
	return nil
}
