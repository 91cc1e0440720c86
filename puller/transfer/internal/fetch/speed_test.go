package fetch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// The speeds are in bytes a second. Bytes come once in 10 ms.
func TestASpeedIsThatOfTheLastSeconds(t *testing.T) {
	for name, tt := range map[string]struct {
		expected, before, now float64
		since                 time.Duration // now
		low, high             float64
	}{
		"as expected":                       {60e6, 60e6, 60e6, time.Second, 59e6, 61e6},
		"not known, none yet":               {0, 0, 0, time.Second, 0, 1},
		"not known, after its first bytes":  {0, 0, 60e6, 10 * time.Millisecond, 59e6, 61e6},
		"much slower than expected at once": {400e6, 0, 1e6, time.Second, 1e6, 7e6},
		"a little slower, after few bytes":  {60e6, 0, 30e6, 50 * time.Millisecond, 50e6, 60e6},
		"a little slower, after a second":   {60e6, 0, 30e6, time.Second, 30e6, 35e6},
		"becomes slow":                      {60e6, 60e6, 0.5e6, 3 * time.Second, 0.5e6, 4e6},
		"becomes fast":                      {60e6, 0.5e6, 60e6, 3 * time.Second, 50e6, 60e6},
		"nothing comes any more":            {60e6, 60e6, 0, 5 * time.Second, 0, 0.1e6},
	} {
		synctest.Test(t, func(t *testing.T) {
			read := 0.0
			if tt.expected > 0 {
				read = 1 / tt.expected
			}
			s := newSpeed(read)
			come := func(speed float64, d time.Duration) {
				for began := time.Now(); time.Since(began) < d; {
					time.Sleep(10 * time.Millisecond)
					if speed > 0 {
						s.add(time.Now(), int64(speed/100))
					}
				}
			}
			if tt.before > 0 {
				come(tt.before, 10*time.Second)
			}
			come(tt.now, tt.since)
			got := 1 / s.perByte(time.Now())
			assert.GreaterOrEqual(t, got, tt.low*0.999, name)
			assert.LessOrEqual(t, got, tt.high*1.001, name)
		})
	}
}
