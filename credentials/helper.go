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

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/share"
	"github.com/pullkit/pullkit/reference"
)

// A helper is a keyring that asks a docker-credential-* program for the registry of each
// image.
type helper struct {
	name   string
	server string // the name that the program is asked for; "" means the registry's name
	exec   Exec
	calls  share.Calls[string, Credential] // by registry
}

// NewHelper returns the keyring of the program docker-credential-<name>, which keeps logins in
// a store of the system. The error says that name cannot be the name of a program. NewHelper
// does not check that the program exists: Lookup finds it.
//
// Lookup runs the program, and yields the login that the program has for the image's
// registry; nothing if it has no login. A yielded error is an [*Error], which wraps a
// [Reason] or the cause of the context's end. Look-ups for the same registry at the same
// time share one run of the program. Answers are not kept. The keyring is also a
// [Fingerprinter] and an [Explainer], whose methods do not run the program.
func NewHelper(name string, x Exec) (Keyring, error) {
	if err := checkHelperName(name); err != nil {
		return nil, fmt.Errorf("helper %s %w", quote(name), err)
	}
	return &helper{name: name, exec: x}, nil
}

func (h *helper) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	return func(yield func(Credential, error) bool) {
		registry := ref.Registry()
		c, err := h.calls.Do(ctx, registry, func(ctx context.Context) (Credential, error) {
			return h.ask(ctx, registry)
		})
		switch {
		case err != nil:
			yield(Credential{Origin: h.origin()}, &Error{Origin: h.origin(), Image: ref.Name(), Err: err})
		case !c.Anonymous():
			yield(c, nil)
		}
	}
}

func (h *helper) Fingerprint(ref reference.Reference) uint64 {
	hash := newHash()
	hashString(hash, h.name)
	hashString(hash, h.exec.Dir)
	hashString(hash, h.server)
	return hash.Sum64()
}

func (h *helper) Explain(ref reference.Reference) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		yield(Note{Origin: h.origin(), Matched: true, Why: "the helper is for all registries; it is run only when a credential is needed"})
	}
}

func (h *helper) origin() Origin { return Origin{Kind: KindHelper, Name: h.name} }

// ask runs the helper with the argument get and the server on its standard input.
func (h *helper) ask(ctx context.Context, registry string) (Credential, error) {
	program := "docker-credential-" + h.name
	if h.exec.Dir != "" {
		dir, err := filepath.Abs(h.exec.Dir)
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
	case keys.LiteralHost(registry) == keys.HubName:
		server = hubServer // the name under which docker stores the login
	}
	stdout, err := h.exec.run(ctx, command{path: path, args: []string{"get"}, stdin: []byte(server)})
	if err != nil {
		return Credential{}, helperError(stdout, err)
	}
	c, err := parseHelper(stdout)
	if err != nil {
		return Credential{}, fmt.Errorf("%w: %w", errProgramAnswer, err)
	}
	if !c.Anonymous() {
		c.Origin = h.origin()
		c.Origin.Key = server
	}
	return c, nil
}

// notFound is the beginning of the message that helpers write to their standard output if
// they have no login for a server.
const notFound = "credentials not found"

// helperError returns the error of a helper that failed; nil if the helper only has no login
// for the server. Helpers write their error messages to their standard output.
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

// tokenUser is the user name with which docker's helpers mark an identity token.
const tokenUser = "<token>"

// parseHelper reads a helper's answer. If the user name is <token>, the secret is an
// identity token.
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

// WithHelpers returns a keyring that first asks a helper that f names, and then tries the
// entries of f. The helper is the one that credHelpers names for exactly the image's
// registry. If credHelpers names none, it is the one that credsStore names. If the helper
// has no login, or fails, the entries of f are tried nevertheless; docker does not try
// them.
//
// An empty name under credHelpers means that no helper is asked for that host. For Docker
// Hub a helper is asked for https://index.docker.io/v1/, as docker does. If the key under
// credHelpers is docker.io, the helper is asked for docker.io, as Podman does.
//
// Only a keyring of WithHelpers starts programs, because a node's file may name programs
// that exist only on the machine on which the file was written.
func (f *File) WithHelpers(x Exec) Keyring {
	f = orZero(f)
	ring := &helped{file: f, helpers: map[helperRow]*helper{}}
	for _, row := range f.helpers.all() {
		ring.helpers[row] = &helper{name: row.program, server: row.server, exec: x}
	}
	return ring
}

// A helped keyring is a File with the helpers that it names.
type helped struct {
	file    *File
	helpers map[helperRow]*helper
}

// parts returns the keyrings of all parts: the variable, all helpers, the file.
func (r *helped) parts() []Keyring {
	rings := r.first()
	for _, row := range r.file.helpers.all() {
		rings = append(rings, r.helpers[row])
	}
	return append(rings, r.file.entriesOnly())
}

// first returns the keyrings that are asked before the helpers: that of the environment
// variable, if there is one.
func (r *helped) first() []Keyring {
	if r.file.variable == nil {
		return nil
	}
	return []Keyring{r.file.variable}
}

// ring returns the keyring for ref, with only the helpers that are asked for its registry.
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

// helperNames holds the names of the docker-credential-* programs in a config.json.
type helperNames struct {
	byHost map[string][]helperRow // from credHelpers, by literal host with port
	store  string                 // from credsStore, for all other hosts; "" if it names none
}

// A helperRow says which program is asked for a host, and for which server name.
type helperRow struct {
	program string // "" means that no program is asked, because the host's login is in the file
	server  string // "" means the name under which docker stores the registry's login
}

var (
	errHelperName = errors.New("names a helper that cannot be a program: only letters, digits, dot, underscore and dash")
	errHelperHost = errors.New("is not a host name: helpers are chosen by the exact host")
)

// read reads credHelpers. For the host of a row whose program is malformed no program is
// asked, not even that of credsStore, because the file names another one for it.
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
			es.problem(origin, warning(ErrLooksWrong, quote(keys.Redact(m.Key))+" is there twice, and the last one counts"))
		}
		seen[m.Key] = m.Value
		host, row, err := readHelperRow(m)
		if err != nil {
			p := problem{Error: &Error{Origin: origin, Err: fmt.Errorf("%s %w", quote(keys.Redact(m.Key)), err)}}
			if host != "" {
				about := keys.Pattern{HostPort: host}
				_, about.Port, _ = keys.SplitHost(host)
				p.about = []keys.Pattern{about}
			}
			es.note(p)
		}
		if host != "" {
			h.add(host, row)
		}
		if advice := helperNameAdvice(row.program); advice != "" {
			es.problem(origin, warning(ErrLooksWrong, quote(keys.Redact(m.Key))+": "+advice))
		}
	}
}

// readHelperRow reads one host of credHelpers with its program. The host is "" if the key
// is not a host.
func readHelperRow(m member) (host string, row helperRow, err error) {
	if host, err = helperHost(m.Key); err != nil {
		return "", row, err
	}
	if strings.TrimSuffix(keys.Fold(keys.CutScheme(m.Key)), "/") == keys.HubName {
		row.server = keys.HubName // Podman writes this key, and asks the program for this name
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

// add adds a row of a host. It replaces an earlier row with the same server. Docker Hub may
// have two rows, one of docker and one of Podman; that of docker comes first.
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

// helperNameAdvice is for a helper's name that is the whole name of its program's file.
// It returns what to write instead; "" for other names.
func helperNameAdvice(name string) string {
	short := strings.TrimSuffix(strings.TrimPrefix(name, "docker-credential-"), ".exe")
	if short == name || short == "" {
		return ""
	}
	return "the name of a helper is what follows docker-credential- in the name of its program: write " + quote(short)
}

// helperHost returns the host, with its port, of a key of credHelpers.
func helperHost(key string) (string, error) {
	p, err := keys.Compile(keys.Normalize(key))
	if err != nil {
		return "", err
	}
	if p.Empty || p.Labels() > 0 || p.Path != "" {
		return "", errHelperHost
	}
	return p.HostPort, nil
}

// rows returns the programs for a registry, in the order in which they are asked: those that
// credHelpers names for exactly this host, or else the one of credsStore. If credHelpers has
// an empty name for the host, there are none.
func (h *helperNames) rows(registry string) []helperRow {
	rows, ok := h.byHost[keys.LiteralHost(registry)]
	if !ok && h.store != "" {
		return []helperRow{{program: h.store}}
	}
	return slices.DeleteFunc(slices.Clone(rows), func(r helperRow) bool { return r.program == "" })
}

// checkHelperName refuses a name with which the program's path could be outside of the
// directories of programs, or that looks like an option.
func checkHelperName(name string) error {
	if strings.Trim(name, ".") == "" || strings.HasPrefix(name, "-") {
		return errHelperName
	}
	for i := range len(name) {
		if c := name[i]; !keys.IsAlnum(c) && c != '.' && c != '_' && c != '-' {
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

// notAsked returns a warning for each program that the file names, because reading a file
// does not ask the program.
func (h *helperNames) notAsked(origin Origin) []*Error {
	var errs []*Error
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

// notes yields a note for each program that WithHelpers would ask for ref; for the zero
// Reference a note for each program that the file names.
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
		_, own := h.byHost[keys.LiteralHost(ref.Registry())]
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

func notAsked(origin Origin, program, hosts string) *Error {
	return &Error{Origin: origin, Err: warning(ErrHelperNotAsked, "names the program docker-credential-"+program+hosts)}
}

// listHosts returns a text with the first few hosts, and the number of the others.
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

// misspeltHelpers returns the right name of the field for helpers of which name is a known
// misspelling; "" if it is not one.
func misspeltHelpers(name string) string {
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "credstore", "credsstores", "credentialstore", "credentialsstore", "credentials-store":
		return keyStore
	case "credhelper", "credshelper", "credshelpers", "credentialhelpers", "credentials-helpers":
		return keyHelpers
	}
	return ""
}

// any reports whether the file names a program.
func (h *helperNames) any() bool { return len(h.all()) > 0 }
