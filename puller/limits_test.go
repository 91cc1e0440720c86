package puller

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// Of 500 goroutines that wait for a slot, half leave before they get one. Each of the
// others gets a slot. With a limit of 1 they get it in the order in which they came. At no
// time are more slots taken than the limit, and in the end all slots are free.
func TestSlotsAreGivenInOrderAndNoneIsLost(t *testing.T) {
	for _, limit := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			s := newSlots(limit)
			rnd := rand.New(rand.NewPCG(1, 2))
			var mu sync.Mutex
			now, served := 0, []int{}
			var wg sync.WaitGroup
			for i := range 500 {
				hold, patience := time.Duration(1+rnd.IntN(10))*time.Millisecond, time.Duration(rnd.IntN(2000))*time.Millisecond
				wg.Go(func() {
					ctx := t.Context()
					if i%2 == 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, patience)
						defer cancel()
					}
					if err := s.acquire(ctx); err != nil {
						assert.ErrorIs(t, err, context.DeadlineExceeded)
						return
					}
					mu.Lock()
					now++
					assert.LessOrEqual(t, now, limit)
					if i%2 == 1 {
						served = append(served, i)
					}
					mu.Unlock()
					time.Sleep(hold)
					mu.Lock()
					now--
					mu.Unlock()
					s.release()
				})
				synctest.Wait() // so that the goroutines come in order
			}
			wg.Wait()
			if limit == 1 { // with a higher limit several get a slot at the same time
				assert.IsIncreasing(t, served)
			}
			assert.Len(t, served, 250)
			assert.Empty(t, s, "every slot was given back")
		})
	}
}

func TestBucketRefusesPullsBeyondTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(2, 3)
		take := func(n int) (got int) {
			for range n {
				if b.take() == nil {
					got++
				}
			}
			return got
		}
		assert.Equal(t, 3, take(10), "the bucket is full at first")
		assert.True(t, b.empty())
		time.Sleep(500 * time.Millisecond)
		assert.False(t, b.empty())
		assert.Equal(t, 1, take(10))
		time.Sleep(time.Hour)
		assert.Equal(t, 3, take(10), "the bucket holds no more than the burst")
		for range 10 {
			time.Sleep(1500 * time.Millisecond)
			assert.Equal(t, 3, take(10))
		}
		b = newBucket(1, 1)
		assert.Equal(t, 1, take(1))
		for range 9 {
			time.Sleep(100 * time.Millisecond)
			assert.Zero(t, take(1))
			assert.True(t, b.empty())
		}
		time.Sleep(100 * time.Millisecond)
		assert.Equal(t, 1, take(2), "a call that is refused does not delay the next token")
		assert.Equal(t, 10, int(newBucket(1, 0).burst), "the kubelet's default")
		assert.Error(t, newBucket(1, -1).take())
		assert.NoError(t, newBucket(0, 0).take())
	})
}
