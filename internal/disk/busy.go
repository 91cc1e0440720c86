package disk

import (
	"errors"
	"time"
)

// BusyFor is how long an operation is tried again while another program has the file
// open: a virus scanner, or a tool that reads the file.
const BusyFor = 2 * time.Second

// The waits between the tries double from the first of these to the second.
const (
	busyPollMin = time.Millisecond
	busyPollMax = 100 * time.Millisecond
)

// WhileBusy runs op, and runs it again for BusyFor if its error says that another program
// has the file open. It returns the last error of op.
func WhileBusy(op func() error) error {
	until := time.Now().Add(BusyFor)
	for wait := busyPollMin; ; wait = min(2*wait, busyPollMax) {
		err := mark(op(), busy)
		if err == nil || !errors.Is(err, ErrBusy) || !time.Now().Before(until) {
			return err
		}
		time.Sleep(wait)
	}
}
