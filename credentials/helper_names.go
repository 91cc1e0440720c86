package credentials

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// helperNames is what a config.json says of docker-credential-* programs.
type helperNames struct {
	byHost map[string]string // literal host with port -> name
	store  string            // for all other hosts; "" if none
}

var (
	errHelperName = errors.New("names a helper that cannot be a program: only letters, digits, dot, underscore and dash")
	errHelperHost = errors.New("is no host name: helpers are chosen by the exact host")
)

// read reads credHelpers.
func (h *helperNames) read(es *entries, origin Origin, data []byte) {
	origin.Key = "credHelpers"
	members, err := readObject(data)
	if err != nil {
		es.problem(origin, err)
		return
	}
	for _, m := range members {
		name, _, err := readString(m.value)
		if err != nil {
			es.problem(origin, fmt.Errorf("%s %w", quote(redactKey(m.name)), err))
			continue
		}
		host, err := helperHost(m.name)
		if err == nil {
			err = checkHelperName(name)
		}
		if err != nil {
			es.problem(origin, fmt.Errorf("%s %w", quote(redactKey(m.name)), err))
			continue
		}
		if h.byHost == nil {
			h.byHost = map[string]string{}
		}
		h.byHost[host] = name
	}
}

// readStore reads credsStore.
func (h *helperNames) readStore(es *entries, origin Origin, data []byte) {
	origin.Key = "credsStore"
	name, _, err := readString(data)
	if err == nil && name != "" {
		err = checkHelperName(name)
	}
	if err != nil {
		es.problem(origin, err)
		return
	}
	h.store = name
}

// helperHost reads a key of credHelpers.
func helperHost(key string) (string, error) {
	p, err := compileKey(normalize(key))
	if err != nil {
		return "", err
	}
	if p.empty || p.labels != nil || p.path != "" {
		return "", errHelperHost
	}
	return p.hostport, nil
}

// name returns the helper for a registry, "" if there is none.
func (h *helperNames) name(registry string) string {
	if name, ok := h.byHost[literalHost(registry)]; ok {
		return name
	}
	return h.store
}

// checkHelperName refuses what could leave the directories that programs are
// looked for in, or be taken for options.
func checkHelperName(name string) error {
	if strings.Trim(name, ".") == "" || strings.HasPrefix(name, "-") {
		return errHelperName
	}
	for i := range len(name) {
		if c := name[i]; !isAlnum(c) && c != '.' && c != '_' && c != '-' {
			return errHelperName
		}
	}
	return nil
}

// all returns the names, each as often as it is named.
func (h *helperNames) all() []string {
	names := slices.Collect(maps.Values(h.byHost))
	if h.store != "" {
		names = append(names, h.store)
	}
	return names
}
