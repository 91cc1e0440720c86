package index

import (
	"io"
	"os"
	"strings"
	"syscall"
)

// maxCPUInfo is how much of /proc/cpuinfo is read: the first processors. Big
// machines have megabytes of it.
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
	// What was read before an error is used as if there had been none.
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
