package index

import (
	"io"
	"os"
	"strings"
	"syscall"
)

// maxCPUInfo is how many bytes of /proc/cpuinfo are read. They hold the first processors,
// which is enough; on big machines the file has megabytes.
const maxCPUInfo = 64 << 10

func readMachine() machine {
	return machine{cpuinfo: readCPUInfo(), uname: uname()}
}

func readCPUInfo() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	var b strings.Builder
	// If reading fails, the text that was read before is used.
	_, _ = io.Copy(&b, io.LimitReader(f, maxCPUInfo))
	return b.String()
}

func uname() string {
	var u syscall.Utsname
	if err := syscall.Uname(&u); err != nil {
		return ""
	}
	var b []byte
	for _, c := range u.Machine { // signed on some architectures, unsigned on others
		if c == 0 {
			break
		}
		b = append(b, byte(c))
	}
	return string(b)
}
