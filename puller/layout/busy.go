package layout

import (
	"errors"
	"time"

	"github.com/pullkit/pullkit/internal/disk"
)

const (
	// busyFor is how long an operation is tried again while another program has
	// the file open: a virus scanner, or a tool that reads index.json.
	busyFor = 2 * time.Second
	// The waits in between double from the first of these to the second.
	busyPollMin = time.Millisecond
	busyPollMax = 100 * time.Millisecond
)

// rename renames a file, and again for a bounded time while it, or the one in its
// place, is busy.
func (l *Layout) rename(from, to string) error {
	return l.whileBusy(func() error { return l.fs.Rename(from, to) })
}

// whileBusy does op until it works, fails for another reason than Busy, or was busy
// for busyFor. It returns the last error.
func (l *Layout) whileBusy(op func() error) error {
	until := time.Now().Add(busyFor)
	for wait := busyPollMin; ; wait = min(2*wait, busyPollMax) {
		err := op()
		if err == nil || !errors.Is(err, disk.ErrBusy) || !time.Now().Before(until) {
			return err
		}
		time.Sleep(wait)
	}
}
