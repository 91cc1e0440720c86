package credentials

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/reference"
)

// helperNames is what a config.json says of docker-credential-* programs.
type helperNames struct {
	byHost map[string][]helperRow // by literal host with port
	store  string                 // the program for all other hosts; "" if none
}

// A helperRow says which program is asked for one host, and under which name.
type helperRow struct {
	program string // "" means none: the host's login is in the file
	server  string // "" means the name that docker logs in to the registry under
}

var (
	errHelperName = errors.New("names a helper that cannot be a program: only letters, digits, dot, underscore and dash")
	errHelperHost = errors.New("is no host name: helpers are chosen by the exact host")
)

// read reads credHelpers. A row whose program is malformed keeps its host from the
// program under credsStore all the same, because the file names another for it.
func (h *helperNames) read(es *entries, origin Origin, data []byte) {
	origin.Key = keyHelpers
	members, err := readObject(data)
	if err != nil {
		es.problem(origin, err)
		return
	}
	for _, m := range members {
		host, row, err := readHelperRow(m)
		if err != nil {
			p := problem{EntryError: &EntryError{origin, fmt.Errorf("%s %w", quote(redactKey(m.Key)), err)}}
			if host != "" {
				about := pattern{hostport: host}
				_, about.port, _ = splitHost(host)
				p.about = []pattern{about}
			}
			es.note(p)
		}
		if host != "" {
			h.add(host, row)
		}
	}
}

// readHelperRow reads one host of credHelpers with its program. The host is "" if
// the key is none.
func readHelperRow(m member) (host string, row helperRow, err error) {
	if host, err = helperHost(m.Key); err != nil {
		return "", row, err
	}
	if strings.TrimSuffix(fold(cutScheme(m.Key)), "/") == hubName {
		row.server = hubName // Podman's key, and the name that it asks the program for
	}
	name, _, err := readString(m.Value)
	if err == nil && name != "" {
		err = checkHelperName(name)
	}
	if err == nil {
		row.program = name
	}
	return host, row, err
}

// add adds a row; of two rows that ask for the same server the last counts. Docker
// Hub may have two rows, docker's and Podman's, of which docker's comes first.
func (h *helperNames) add(host string, row helperRow) {
	if h.byHost == nil {
		h.byHost = map[string][]helperRow{}
	}
	rows := slices.DeleteFunc(h.byHost[host], func(r helperRow) bool { return r.server == row.server })
	rows = append(rows, row)
	slices.SortFunc(rows, func(a, b helperRow) int { return strings.Compare(a.server, b.server) })
	h.byHost[host] = rows
}

// readStore reads credsStore.
func (h *helperNames) readStore(es *entries, origin Origin, data []byte) {
	origin.Key = keyStore
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

// rows returns the programs for a registry, in the order in which they are asked:
// those that credHelpers names for the very host, or else the one of credsStore. A
// host with an empty name under credHelpers has none.
func (h *helperNames) rows(registry string) []helperRow {
	rows, ok := h.byHost[literalHost(registry)]
	if !ok && h.store != "" {
		return []helperRow{{program: h.store}}
	}
	return slices.DeleteFunc(slices.Clone(rows), func(r helperRow) bool { return r.program == "" })
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

// all returns the rows of all hosts and of credsStore, each once.
func (h *helperNames) all() []helperRow {
	rows := slices.Concat(slices.Collect(maps.Values(h.byHost))...)
	rows = slices.DeleteFunc(append(rows, helperRow{program: h.store}), func(r helperRow) bool { return r.program == "" })
	slices.SortFunc(rows, func(a, b helperRow) int {
		return cmp.Or(strings.Compare(a.program, b.program), strings.Compare(a.server, b.server))
	})
	return slices.Compact(rows)
}

// notAsked returns a warning for each program that c names, for Problems.
func (h *helperNames) notAsked(origin Origin) []error {
	var errs []error
	hosts := map[string][]string{} // by program
	for host, rows := range h.byHost {
		for _, row := range rows {
			if row.program != "" {
				hosts[row.program] = append(hosts[row.program], host)
			}
		}
	}
	for _, program := range slices.Sorted(maps.Keys(hosts)) {
		slices.Sort(hosts[program])
		origin.Key = keyHelpers
		errs = append(errs, notAsked(origin, program, " for "+listHosts(slices.Compact(hosts[program]))))
	}
	if h.store != "" {
		origin.Key = keyStore
		errs = append(errs, notAsked(origin, h.store, ""))
	}
	return errs
}

// notes yields a note for each program that would be asked for ref.
func (h *helperNames) notes(origin Origin, ref reference.Reference) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		_, own := h.byHost[literalHost(ref.Registry())]
		origin.Key = keyStore
		if own {
			origin.Key = keyHelpers
		}
		for _, row := range h.rows(ref.Registry()) {
			err := notAsked(origin, row.program, "")
			if !yield(Note{Origin: origin, Why: err.Err.Error(), Err: err}) {
				return
			}
		}
	}
}

const (
	keyHelpers = "credHelpers"
	keyStore   = "credsStore"
)

func notAsked(origin Origin, program, hosts string) *EntryError {
	return &EntryError{origin, warning(ErrHelperNotAsked, "names the program docker-credential-"+program+hosts)}
}

// listHosts names a few hosts.
func listHosts(hosts []string) string {
	const few = 3
	var names []string
	for _, host := range hosts[:min(len(hosts), few)] {
		names = append(names, quote(host))
	}
	text := strings.Join(names, ", ")
	if more := len(hosts) - few; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// misspeltHelpers returns the right name of a field that was meant to name helpers;
// "" if name is none of those.
func misspeltHelpers(name string) string {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "credstore", "credsstores", "credentialstore", "credentialsstore", "credentials-store":
		return keyStore
	case "credhelper", "credshelper", "credshelpers", "credentialhelpers", "credentials-helpers":
		return keyHelpers
	}
	return ""
}

// any reports whether a program is named for any host.
func (h *helperNames) any() bool { return len(h.all()) > 0 }
