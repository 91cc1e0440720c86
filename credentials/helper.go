package credentials

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/internal/share"
	"github.com/pullkit/pullkit/reference"
)

// A HelperConfig says how docker-credential-* programs are run.
type HelperConfig struct {
	// Dir is the directory of the programs; "" means those that PATH names.
	Dir string
	// Exec bounds the programs. Zero means a minute and 1 MiB.
	Exec Exec
}

// A Helper is a docker-credential-* program, which keeps logins in a store of the
// system, asked for the registry of each image. It is a [Keyring], a
// [Fingerprinter] and an [Explainer], safe for concurrent use, and made by
// [NewHelper]. One run answers all that ask for the same registry at the same
// time; answers are not kept.
type Helper struct {
	name   string
	server string // asked for in place of the registry's name; "" for that
	config HelperConfig
	calls  share.Calls[string, Credential] // by registry
}

// NewHelper returns the helper docker-credential-<name>. The program is looked
// for when it is run. The error says that name cannot be a program's.
func NewHelper(name string, c HelperConfig) (*Helper, error) {
	if err := checkHelperName(name); err != nil {
		return nil, fmt.Errorf("helper %s %w", quote(name), err)
	}
	return &Helper{name: name, config: c}, nil
}

// Lookup runs the helper and yields the login that it has for ref's registry, if
// any. A failure is a [*SourceError] that wraps a [Reason].
func (h *Helper) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return func(yield func(Credential, error) bool) {
		registry := ref.Registry()
		c, err := h.calls.Do(ctx, registry, func(ctx context.Context) (Credential, error) {
			return h.ask(ctx, registry)
		})
		switch {
		case err != nil:
			yield(Credential{Origin: h.origin()}, &SourceError{h.origin(), ref.Name(), err})
		case !c.Anonymous():
			yield(c, nil)
		}
	}
}

// Fingerprint hashes the name of the program.
func (h *Helper) Fingerprint(ref reference.Reference) uint64 {
	hash := newHash()
	hashString(hash, h.name)
	hashString(hash, h.config.Dir)
	hashString(hash, h.server)
	return hash.Sum64()
}

// Explain yields one note: the helper would be asked.
func (h *Helper) Explain(ref reference.Reference) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		yield(Note{Origin: h.origin(), Matched: true, Why: "the helper knows all registries; it was not run"})
	}
}

func (h *Helper) origin() Origin { return Origin{Kind: KindHelper, Name: h.name} }

// ask runs the helper: get, with the server on its standard input.
func (h *Helper) ask(ctx context.Context, registry string) (Credential, error) {
	program := "docker-credential-" + h.name
	if h.config.Dir != "" {
		dir, err := filepath.Abs(h.config.Dir)
		if err != nil {
			return Credential{}, err
		}
		program = filepath.Join(dir, program)
	}
	path, err := findProgram(program)
	if err != nil {
		err = fmt.Errorf("%w: docker-credential-%s", err, h.name)
		if advice := helperNameAdvice(h.name); advice != "" {
			err = fmt.Errorf("%w: %s", err, advice)
		}
		return Credential{}, err
	}
	server := registry
	switch {
	case h.server != "":
		server = h.server
	case literalHost(registry) == hubName:
		server = hubServer // the name that docker logs in to it under
	}
	stdout, err := h.config.Exec.run(ctx, command{path: path, args: []string{"get"}, stdin: []byte(server)})
	if err != nil {
		return Credential{}, helperError(stdout, err)
	}
	c, err := parseHelper(stdout)
	if err != nil {
		return Credential{}, fmt.Errorf("%w: %w", ErrProgramAnswer, err)
	}
	if !c.Anonymous() {
		c.Origin = h.origin()
		c.Origin.Key = server
	}
	return c, nil
}

// notFound begins what helpers write, to their standard output, where they have
// no login for a server.
const notFound = "credentials not found"

// helperError is nil where the helper only has nothing. Helpers say what went
// wrong on their standard output.
func helperError(stdout []byte, err error) error {
	said := bytes.TrimSpace(stdout)
	if errors.Is(err, ErrProgramFailed) && bytes.HasPrefix(said, []byte(notFound)) {
		return nil
	}
	if words := repeatable(string(said)); errors.Is(err, ErrProgramFailed) && words != "" {
		return fmt.Errorf("%w: %s", err, words)
	}
	return err
}

// parseHelper reads a helper's answer. The user name <token> marks an identity
// token.
func parseHelper(stdout []byte) (Credential, error) {
	if err := checkJSON(stdout); err != nil {
		return Credential{}, err
	}
	members, err := readObject(stdout)
	if err != nil {
		return Credential{}, err
	}
	var username, secret string
	for _, m := range members {
		switch m.Key {
		case "Username":
			username, _, err = readString(m.Value)
		case "Secret":
			secret, _, err = readString(m.Value)
		}
		if err != nil {
			return Credential{}, fmt.Errorf("%s %w", m.Key, err)
		}
	}
	if username == tokenUser {
		return Credential{IdentityToken: Conceal(secret)}, nil
	}
	return Credential{Username: username, Password: Conceal(secret)}, nil
}

// WithHelpers returns a keyring that also asks the programs which f names: the
// one under credHelpers for the image's exact registry or else the one under
// credsStore, before f's own entries. A helper that has no login, or fails, does
// not hide those; docker would stop there.
//
// An empty name under credHelpers means that no program is asked for that host.
// For Docker Hub a program is asked for https://index.docker.io/v1/, as docker does;
// for docker.io, as Podman does, if that is its key under credHelpers.
//
// Reading a file starts no program: that needs this call, because a node's file
// may name programs that only the machine has on which it was written.
func (f *File) WithHelpers(c HelperConfig) Keyring {
	f = orZero(f)
	ring := &helped{file: f, helpers: map[helperRow]*Helper{}}
	for _, row := range f.helpers.all() {
		ring.helpers[row] = &Helper{name: row.program, server: row.server, config: c}
	}
	return ring
}

// A helped keyring is a File with the helpers that it names.
type helped struct {
	file    *File
	helpers map[helperRow]*Helper
}

// parts returns all that may be asked.
func (r *helped) parts() []Keyring {
	rings := r.first()
	for _, row := range r.file.helpers.all() {
		rings = append(rings, r.helpers[row])
	}
	return append(rings, r.file.entriesOnly())
}

// first is what is asked before all helpers: the variable of the environment.
func (r *helped) first() []Keyring {
	if r.file.variable == nil {
		return nil
	}
	return []Keyring{r.file.variable}
}

// ring returns what is asked for ref, in order.
func (r *helped) ring(ref reference.Reference) Keyring {
	rings := r.first()
	for _, row := range r.file.helpers.rows(ref.Registry()) {
		rings = append(rings, r.helpers[row])
	}
	return Join(append(rings, r.file.entriesOnly())...)
}

func (r *helped) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return r.ring(ref).Lookup(ctx, ref)
}

func (r *helped) Fingerprint(ref reference.Reference) uint64 {
	return r.ring(ref).(Fingerprinter).Fingerprint(ref)
}

func (r *helped) Explain(ref reference.Reference) iter.Seq[Note] {
	return r.ring(ref).(Explainer).Explain(ref)
}

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
	errHelperHost = errors.New("is not a host name: helpers are chosen by the exact host")
)

// read reads credHelpers. A row whose program is malformed keeps its host from the
// program under credsStore, because the file names another for it.
func (h *helperNames) read(es *entries, origin Origin, data []byte) {
	origin.Key = keyHelpers
	members, err := readObject(data)
	if err != nil {
		es.problem(origin, err)
		return
	}
	seen := map[string][]byte{}
	for _, m := range members {
		if before, ok := seen[m.Key]; ok && !bytes.Equal(before, m.Value) {
			es.problem(origin, warning(ErrLooksWrong, quote(redactKey(m.Key))+" is there twice, and the last one counts"))
		}
		seen[m.Key] = m.Value
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
		if advice := helperNameAdvice(row.program); advice != "" {
			es.problem(origin, warning(ErrLooksWrong, quote(redactKey(m.Key))+": "+advice))
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
	if advice := helperNameAdvice(name); advice != "" {
		es.problem(origin, warning(ErrLooksWrong, advice))
	}
}

// helperNameAdvice says that a helper is called by the name of its program's file, and what
// to write; "" if it is not.
func helperNameAdvice(name string) string {
	short := strings.TrimSuffix(strings.TrimPrefix(name, "docker-credential-"), ".exe")
	if short == name || short == "" {
		return ""
	}
	return "the name of a helper is what follows docker-credential- in the name of its program: write " + quote(short)
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

// notAsked returns a warning for each program that the file names.
func (h *helperNames) notAsked(origin Origin) []*EntryError {
	var errs []*EntryError
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

// notes yields a note for each program that would be asked for ref; of all for the
// zero Reference.
func (h *helperNames) notes(origin Origin, ref reference.Reference) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		if ref == (reference.Reference{}) {
			for _, err := range h.notAsked(origin) {
				if !yield(Note{Origin: err.Origin, Why: err.Err.Error(), Err: err}) {
					return
				}
			}
			return
		}
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
