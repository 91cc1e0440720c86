package registry

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/internal/panics"
)

// TestPanicOfAddressCheck holds that a panic of AllowAddr, which package net calls in
// a goroutine of its own, comes back as the error that send raises again.
func TestPanicOfAddressCheck(t *testing.T) {
	cause := errors.New("AllowAddr panicked")
	ep := &endpoint{registry: "public.example", client: &Client{AllowAddr: func(string, netip.Addr) bool { panic(cause) }}}
	_, err := ep.connect(t.Context(), "tcp", "127.0.0.1:1", func(a netip.Addr) error { return ep.checkAddr(a, false) })
	var panicked *panics.Error
	require.ErrorAs(t, err, &panicked)
	assert.ErrorIs(t, panicked, cause)
}
