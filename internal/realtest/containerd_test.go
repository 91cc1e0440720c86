package realtest_test

import (
	"testing"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/stretchr/testify/assert"
)

func TestContainerdListens(t *testing.T) {
	for program, version := range map[string]string{realtest.ContainerdProgram: `1\.`, realtest.Containerd2Program: `2\.`} {
		t.Run(program, func(t *testing.T) {
			c := realtest.StartContainerd(t, program, nil)
			assert.Regexp(t, `(?s)Server:.*Version: +v?`+version, c.Ctr(t, "default", "version"))
			assert.DirExists(t, c.Root)
		})
	}
}
