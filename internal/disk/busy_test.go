package disk

import (
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// TestABusyFileIsTriedAgain holds that an operation on a busy file is tried again for a
// bounded time. An operation that failed for another reason is not tried again.
func TestABusyFileIsTriedAgain(t *testing.T) {
	other := errors.New("other")
	for name, tt := range map[string]struct {
		free time.Duration // after which the file is not busy any more
		then error
		want error
		took time.Duration // at most
	}{
		"free":        {0, nil, nil, 0},
		"other error": {0, other, other, 0},
		"soon free":   {300 * time.Millisecond, nil, nil, 500 * time.Millisecond},
		"then other":  {300 * time.Millisecond, other, other, 500 * time.Millisecond},
		"never free":  {time.Hour, nil, ErrBusy, BusyFor + busyPollMax},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				err := WhileBusy(func() error {
					if time.Since(start) < tt.free {
						return markAs(&fs.PathError{Op: "renameat", Path: "x", Err: fs.ErrPermission}, windowsFault(winSharingViolation))
					}
					return tt.then
				})
				assert.ErrorIs(t, err, tt.want)
				assert.LessOrEqual(t, time.Since(start), tt.took)
			})
		})
	}
}
