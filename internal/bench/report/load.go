package report

import (
	"fmt"
	"os"
	"strings"
)

// Load returns the machine's load average of the last minute, or "unknown" if the system has
// no /proc/loadavg.
func Load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if fields := strings.Fields(string(data)); err == nil && len(fields) > 0 {
		return fields[0]
	}
	return "unknown"
}

// Rounds returns a note about the figures of n rounds.
func Rounds(n int) string {
	if n == 1 {
		return "One round."
	}
	return fmt.Sprintf("Medians of %d rounds in turn.", n)
}
