package disk

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestReleaseAtLeastComparesNumbers(t *testing.T) {
	for release, want := range map[string]bool{
		"5.8.0": true, "5.10.0-28-amd64": true, "6.1": true, "10.0.0\x00\x00": true,
		"5.7.19": false, "4.18.0-553.el8_10.x86_64": false, "4.4.0": false, "": false, "x": false, "6": false,
	} {
		assert.Equal(t, want, releaseAtLeast(release, 5, 8), release)
	}
}
