package disk

import (
	"errors"
	"time"
)

// BusyFor is how long WhileBusy tries an operation again while another program, such as a
// virus scanner or a program that reads the file, has the file open.
const BusyFor = 2 * time.Second

// The wait between two tries doubles from busyPollMin up to busyPollMax.
const (
	busyPollMin = time.Millisecond
	busyPollMax = 100 * time.Millisecond
)

// WhileBusy runs op. If op's error says that another program has the file open, WhileBusy
// runs op again, for BusyFor at most. It returns the last error of op, which then wraps
// ErrBusy.
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
