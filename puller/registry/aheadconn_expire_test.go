package registry

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// The timer of connections that were opened ahead may fire at the moment in which others
// are opened. It does not close those, because their time has not passed.
func TestOnlyConnectionsWhoseTimeHasPassedAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened := make(chan struct{})
		close(opened)
		later := &aheadConns{until: time.Now().Add(time.Second), expiry: time.NewTimer(time.Hour),
			unused: []*aheadConn{{cancel: func() {}, opened: opened}}}
		later.expire()
		assert.Len(t, later.unused, 1)
		assert.Zero(t, later.notBefore)
		time.Sleep(time.Second)
		later.expire()
		assert.Empty(t, later.unused)
		assert.NotZero(t, later.notBefore)
	})
}
