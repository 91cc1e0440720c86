package gc

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"github.com/pullkit/pullkit/internal/await"
	"github.com/pullkit/pullkit/internal/disk"
)

// Usage is how full a file system is, in bytes.
type Usage struct {
	Capacity  int64 `json:"capacity"`
	Available int64 `json:"available"` // the bytes that an ordinary user can still write
}

// Percent returns how many percent of the capacity are used, rounded up. Used are all
// bytes that are not available. The kubelet compares the same number with its thresholds.
// It is 0 for the zero Usage.
func (u Usage) Percent() int {
	if u.Capacity <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(min(max(u.Available, 0), u.Capacity)), 100)
	free, _ := bits.Div64(hi, lo, uint64(u.Capacity))
	return 100 - int(free)
}

// over returns how many bytes must become free until only low percent are used.
func (u Usage) over(low int) int64 {
	hi, lo := bits.Mul64(uint64(u.Capacity), uint64(100-low))
	want, _ := bits.Div64(hi, lo, 100)
	return int64(want) - u.Available
}

// checked returns u with an Available between 0 and Capacity, as in the kubelet.
func (u Usage) checked() (Usage, error) {
	if u.Capacity <= 0 {
		return Usage{}, fmt.Errorf("the file system of the images has a capacity of %d bytes, which must be more than 0", u.Capacity)
	}
	u.Available = min(max(u.Available, 0), u.Capacity)
	return u, nil
}

// FileSystem returns a function for Config.Usage that asks the operating system about the
// file system of a directory. On systems that do not say how large a file system is, such
// as NetBSD and Plan 9, its error wraps errors.ErrUnsupported. The function returns soon
// after the end of its context, even if the file system does not answer.
func FileSystem(dir string) func(context.Context) (Usage, error) {
	return func(ctx context.Context) (Usage, error) {
		type answer struct {
			u   Usage
			err error
		}
		a, ok := await.Call(ctx, func() (a answer) {
			a.u.Capacity, a.u.Available, a.err = disk.Usage(dir)
			return a
		})
		switch {
		case !ok:
			return Usage{}, context.Cause(ctx)
		case errors.Is(a.err, errors.ErrUnsupported):
			return Usage{}, fmt.Errorf("this system does not say how full the file system of %q is: set Config.Usage: %w", dir, a.err)
		case a.err != nil:
			return Usage{}, fmt.Errorf("it is not known how full the file system of %q is: %w", dir, a.err)
		}
		return a.u, nil
	}
}
