package main

import (
	_ "embed"
	"fmt"
	"strings"
)

// leftOutText is leftout.txt, which has a line for each test that cannot run on a
// system.
//
//go:embed leftout.txt
var leftOutText string

// A leftOut is one line of leftout.txt.
type leftOut struct {
	system, pkg, test, reason string
}

// parseLeftOut parses lines of system, package, test and reason. A line that begins
// with # is a comment.
func parseLeftOut(text string) ([]leftOut, error) {
	var list []leftOut
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 4 {
			return nil, fmt.Errorf("leftout.txt: %q: want system, package, test and the reason", line)
		}
		list = append(list, leftOut{fields[0], fields[1], fields[2], strings.Join(fields[3:], " ")})
	}
	return list, nil
}

// skipPattern returns a regular expression that matches the tests that the system
// leaves out, and no other test.
func skipPattern(system string) (string, error) {
	list, err := parseLeftOut(leftOutText)
	if err != nil {
		return "", err
	}
	var tests []string
	for _, l := range list {
		if l.system == system {
			tests = append(tests, l.test)
		}
	}
	return "^(" + strings.Join(tests, "|") + ")$", nil
}
