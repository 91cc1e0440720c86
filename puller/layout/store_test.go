package layout_test

import (
	"testing"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/require"
)

func TestALayoutIsAStore(t *testing.T) {
	require.NoError(t, pullertest.TestStore(func() (content.Store, error) {
		l, err := layout.Open(t.TempDir(), layout.Config{})
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return l, err
	}))
}
