package credentials

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/pullkit/pullkit/credentials/internal/diagnose"
	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/regular"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/reference"
)

// A File is a config.json, .dockercfg or auth.json file that was read. It is a [Keyring],
// a [Fingerprinter], an [Explainer] and a [Lister]. It does not start programs; see
// [File.WithHelpers] for the credential helpers that the file names. A File never
// changes. The zero File and a nil *File have no credentials. [FindFile] returns a File
// without credentials if it does not find a file.
type File struct {
	name     string
	table    table
	helpers  helperNames
	variable *File // the credentials of DOCKER_AUTH_CONFIG, tried before all others; nil without that variable
}

// ParseFile reads the text of a credential file. The format depends on the base name of
// name: .dockercfg has the legacy format, in which the document is an object of entries.
// All other files have the entries under auths. name is also the Name in the Origin of
// each credential.
//
// The error is an [*Error], and says that the document cannot be used: it is not JSON,
// is larger than 8 MiB, or has another value where an object must be. Malformed entries are
// left out, and [Problems] lists them. Entries without a credential are left out too, and
// listed with [ErrGivesNothing] unless a helper keeps the login for their host.
//
// The case of field names does not matter. Of a field or key that is written twice the
// last one counts, as in the kubelet. The entries of two auths objects are all read.
func ParseFile(data []byte, name string, rules Rules) (*File, error) {
	es := entries{rules: rules}
	origin := Origin{Kind: KindFile, Name: name}
	legacy := filepath.Base(name) == ".dockercfg"
	doc, err := es.addDocument(origin, data, legacy)
	if err != nil {
		return nil, &Error{Origin: origin, Err: err}
	}
	es.warnFile(origin, doc, legacy)
	return &File{name: name, table: newTable(es), helpers: doc.helpers}, nil
}

// Name returns the name that was given to [ParseFile], or the path of a file that
// [ReadFile] or [FindFile] read; "" if [FindFile] found none.
func (f *File) Name() string { return orZero(f).name }

// Lookup yields the credentials of the entries whose key matches ref, in reverse byte order
// of the keys, so that a longer path comes before a shorter one. Entries whose keys mean
// the same come in the order of the file.
func (f *File) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[Credential, error] {
	f = orZero(f)
	if f.variable != nil {
		return f.joined().Lookup(ctx, ref)
	}
	return f.table.lookup(ref, "")
}

// Fingerprint returns a hash of the credentials that Lookup would yield.
func (f *File) Fingerprint(ref reference.Reference) uint64 {
	f = orZero(f)
	if f.variable != nil {
		return f.joined().(Fingerprinter).Fingerprint(ref)
	}
	return f.table.fingerprint(ref)
}

// Explain yields a note for each entry, then one for each problem that may be the reason
// for which ref has no good credential, then one for each helper that [File.WithHelpers]
// would ask.
func (f *File) Explain(ref reference.Reference) iter.Seq[Note] {
	f = orZero(f)
	return inTurn(f.explainEntries(ref), f.helpers.notes(f.origin(), ref))
}

// explainEntries yields the notes of Explain without those about helpers.
func (f *File) explainEntries(ref reference.Reference) iter.Seq[Note] {
	if f.variable != nil {
		return inTurn(f.variable.table.explain(ref, ""), f.table.explain(ref, ""))
	}
	return f.table.explain(ref, "")
}

// joined returns the File as a keyring of two parts: the variable, and the file itself.
func (f *File) joined() Keyring { return Join(f.variable, f.entriesOnly()) }

// entriesOnly returns the file without the variable, and without the helpers that it names.
func (f *File) entriesOnly() *File { return &File{name: f.name, table: f.table} }

func (f *File) origin() Origin { return Origin{Kind: KindFile, Name: f.name} }

// inTurn yields all values of the first sequence, then all of the second, and so on.
func inTurn[T any](seqs ...iter.Seq[T]) iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, seq := range seqs {
			for v := range seq {
				if !yield(v) {
					return
				}
			}
		}
	}
}

// A document has what is needed of a credential document in addition to its credentials.
type document struct {
	top     []member // the fields of the whole document
	auths   []member // the entries of all auths objects
	markers []member // the entries without a credential
	helpers helperNames
}

// addDocument reads one credential document into es.
func (es *entries) addDocument(origin Origin, data []byte, legacy bool) (document, error) {
	var doc document
	if rest, ok := bytes.CutPrefix(data, byteOrderMark); ok && !es.rules.Kubelet && strictjson.Valid(rest) {
		es.problem(origin, errByteOrderMark)
		data = rest
	}
	if err := checkJSON(data); err != nil {
		return doc, err
	}
	var err error
	if doc.top, err = readObject(data); err != nil {
		return doc, hinted(err, diagnose.Document(data, 0))
	}
	if legacy {
		doc.markers = es.addAuths(origin, doc.top, true)
		return doc, nil
	}
	if err := es.readTop(origin, &doc); err != nil {
		return doc, err
	}
	doc.markers = es.addAuths(origin, doc.auths, false)
	return doc, nil
}

// readTop reads the fields of a config.json.
func (es *entries) readTop(origin Origin, doc *document) error {
	spelling := ""
	for _, m := range doc.top {
		switch strings.ToLower(m.Key) {
		case "auths":
			more, err := readObject(m.Value)
			if err != nil {
				return &fieldError{"auths", hinted(err, diagnose.Auths(m.Value))}
			}
			if spelling != "" && spelling != m.Key {
				es.note(problem{Error: &Error{Origin: origin, Err: errSpelledTwice}, aside: true})
			}
			spelling = m.Key
			doc.auths = append(doc.auths, more...)
			if strictjson.KindOf(m.Value) == strictjson.KindNull { // null removes the entries before it
				if len(doc.auths) > 0 {
					es.problem(origin, warning(ErrGivesNothing, "auths is there again as null, which removes the entries before it: leave it out"))
				}
				doc.auths = nil
			}
		case "httpheaders":
			if _, err := readObject(m.Value); err != nil && es.rules.Kubelet {
				return &fieldError{"HttpHeaders", err}
			}
		case "credhelpers":
			if !es.rules.Kubelet {
				doc.helpers.read(es, origin, m.Value)
			}
		case "credsstore":
			if !es.rules.Kubelet {
				doc.helpers.readStore(es, origin, m.Value)
			}
		}
	}
	return nil
}

// A fieldError says what is wrong with one field of a document.
type fieldError struct {
	field string
	err   error
}

func (e *fieldError) Error() string { return e.field + " " + e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }

// of returns an error that says which document err is about. The text of err begins with a
// verb, or is that of a fieldError.
func of(document string, err error) error {
	var field *fieldError
	if errors.As(err, &field) {
		return fmt.Errorf("%s: %w", document, err)
	}
	return fmt.Errorf("%s %w", document, err)
}

// warnFile notes warnings about what is probably a mistake in a file. A file without auths
// and an entry whose login a helper keeps are not mistakes, because docker writes them.
func (es *entries) warnFile(origin Origin, doc document, legacy bool) {
	for _, hint := range diagnose.Fields(doc.top, legacy) {
		es.problem(origin, warning(ErrGivesNothing, hint))
	}
	if es.rules.Kubelet {
		return
	}
	for _, m := range doc.top {
		if right := misspeltHelpers(m.Key); right != "" && !legacy {
			es.problem(origin, warning(ErrGivesNothing, "the document has "+quote(m.Key)+", which must be written "+right))
		}
	}
	es.warnMarkers(origin, doc)
}

// warnMarkers notes a warning about each entry without a credential, unless a helper is
// named for its host.
func (es *entries) warnMarkers(origin Origin, doc document) {
	for _, m := range doc.markers {
		host, _ := keys.CutPath(keys.Normalize(m.Key))
		if len(doc.helpers.rows(host)) > 0 {
			continue
		}
		origin.Key = m.Key
		es.aboutEntry(origin, warning(ErrGivesNothing, diagnose.Entry(m).Empty()))
	}
}

// ErrNoFile says that a file does not exist. The error of a call that reads files wraps it.
// ErrNoFile is not an fs.ErrNotExist, because [VerdictOf] takes that to mean that an image
// does not exist.
var ErrNoFile = errors.New("file does not exist")

// ReadFile reads the file at path; see [ParseFile]. The error wraps [ErrNoFile] if the file
// does not exist. A file that other users can read is used, and [Problems] lists it with
// [ErrReadableByOthers].
func ReadFile(path string, rules Rules) (*File, error) {
	f, err := FindFile([]string{path}, rules)
	if err == nil && f.name == "" {
		err = fmt.Errorf("no credential file found at %s: %w", quote(path), ErrNoFile)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// FindFile reads only the first file of paths that can be used; see [ParseFile]. If none
// of the files exists, FindFile returns a File without credentials, and not an error. A
// file that cannot be used, such as a link whose target is missing, is skipped, and
// [Problems] lists it. If there are such files and none of the files can be used, the
// error says why for each.
//
// [KubeletPaths], [DockerPaths] and [ContainersPaths] return paths for FindFile.
// [ReadDocker] also reads the environment variable that docker reads.
func FindFile(paths []string, rules Rules) (*File, error) {
	var bad problemList
	for _, path := range paths {
		data, mode, err := readFile(path)
		if errors.Is(err, ErrNoFile) {
			if rules.Kubelet || !isLink(path) {
				continue
			}
			err = fmt.Errorf("is a link, and its target is missing: %w", ErrNoFile)
		}
		origin := Origin{Kind: KindFile, Name: path}
		if err != nil {
			bad = append(bad, problem{Error: &Error{Origin: origin, Err: err}})
			continue
		}
		f, err := ParseFile(data, path, rules)
		if err != nil {
			bad = append(bad, problem{Error: err.(*Error)})
			continue
		}
		if mode&0o077 != 0 && runtime.GOOS != "windows" && !rules.Kubelet {
			bad = append(bad, problem{Error: &Error{Origin: origin, Err: ErrReadableByOthers}, aside: true})
		}
		f.table.problems = append(bad, f.table.problems...)
		return f, nil
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("no credential file can be used: %w", &leftOutError{bad.errors()})
	}
	return &File{table: table{rules: rules}}, nil
}

// isLink reports whether a path is that of a symbolic link.
func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// readFile reads a regular file of at most maxDocument bytes. The error wraps ErrNoFile if
// the file does not exist.
func readFile(path string) ([]byte, fs.FileMode, error) {
	data, info, err := regular.ReadFile(path, maxDocument)
	if errors.Is(err, regular.ErrTooLarge) {
		err = errTooLarge
	}
	if err != nil {
		return nil, 0, named(err)
	}
	return data, info.Mode(), nil
}

// named returns err, with ErrNoFile in place of fs.ErrNotExist.
func named(err error) error {
	var path *fs.PathError
	if errors.Is(err, fs.ErrNotExist) && errors.As(err, &path) {
		return fmt.Errorf("%s %s: %w", path.Op, quote(path.Path), ErrNoFile)
	}
	return err
}

// KubeletPaths returns the paths of the files that the kubelet searches, in its order:
// config.json in the kubelet's root directory, in the working directory, in $HOME/.docker
// and in /.docker, then .dockercfg in the root directory, in the working directory, in
// $HOME and in /. If root is "", it is the kubelet's default, /var/lib/kubelet. The kubelet
// does not read the variable DOCKER_AUTH_CONFIG.
func KubeletPaths(root string) []string {
	if root == "" {
		root = "/var/lib/kubelet"
	}
	home, err := os.UserHomeDir()
	list := func(name, sub string) []string {
		paths := []string{filepath.Join(root, name), name}
		if err == nil {
			paths = append(paths, filepath.Join(home, sub, name))
		}
		return append(paths, filepath.Join("/", sub, name))
	}
	return append(list("config.json", ".docker"), list(".dockercfg", "")...)
}

// DockerPaths returns the path of the one file that docker reads:
// $DOCKER_CONFIG/config.json, or ~/.docker/config.json if that variable is not set. It
// returns nil if the home directory is not known. [ReadDocker] also reads the variable
// DOCKER_AUTH_CONFIG, as docker does.
func DockerPaths() []string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return []string{filepath.Join(dir, "config.json")}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	return []string{filepath.Join(home, ".docker", "config.json")}
}

// ContainersPaths returns the paths of the files that Podman, Buildah, Skopeo and CRI-O
// search: only $REGISTRY_AUTH_FILE if that variable is set. Otherwise these are
// containers/auth.json in $XDG_RUNTIME_DIR (or /run/containers/<uid>/auth.json),
// containers/auth.json in $XDG_CONFIG_HOME (or in ~/.config), docker's file, and
// ~/.dockercfg.
//
// These tools read the next file if one has no entry for an image. For the same behaviour,
// call [FindFile] with each path by itself, and [Join] the results.
func ContainersPaths() []string {
	if path := os.Getenv("REGISTRY_AUTH_FILE"); path != "" {
		return []string{path}
	}
	var paths []string
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		paths = append(paths, filepath.Join(dir, "containers", "auth.json"))
	} else if uid := os.Getuid(); uid >= 0 {
		paths = append(paths, filepath.Join("/run/containers", strconv.Itoa(uid), "auth.json"))
	}
	home, err := os.UserHomeDir()
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		paths = append(paths, filepath.Join(dir, "containers", "auth.json"))
	} else if err == nil {
		paths = append(paths, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	paths = append(paths, DockerPaths()...)
	if err == nil {
		paths = append(paths, filepath.Join(home, ".dockercfg"))
	}
	return paths
}

// dockerAuthConfig is the name of the environment variable from which docker and the tools
// of CI systems read credentials. Its value is a secret.
const dockerAuthConfig = "DOCKER_AUTH_CONFIG"

// ReadDocker reads the credentials that docker reads: those of the environment variable
// DOCKER_AUTH_CONFIG, and those of the file of [DockerPaths]. The credentials of the
// variable are tried first, then the helpers that the file names (see [File.WithHelpers]),
// then the credentials of the file. If there is neither the variable nor the file,
// ReadDocker returns a File without credentials, and not an error.
//
// The value of the variable is a document that has only the field auths, and whose entries
// have only the field auth. If it has any other field, the variable is not used at all, as
// in docker: [Problems] lists it, and the file is used. A file that cannot be used is an
// error only if the variable is not set, or cannot be used either.
//
// No other function of this package reads the variable, and programs do not inherit it:
// see [Exec].
func ReadDocker() (*File, error) {
	file, err := FindFile(DockerPaths(), Rules{})
	value := os.Getenv(dockerAuthConfig)
	if value == "" {
		return file, err
	}
	origin := Origin{Kind: KindVariable, Name: dockerAuthConfig}
	es := entries{}
	varErr := es.addVariable(origin, value)
	if err != nil && varErr != nil {
		return nil, fmt.Errorf("no credentials of docker can be used: %w", &leftOutError{[]error{&Error{Origin: origin, Err: varErr}, err}})
	}
	file = orZero(file)
	if varErr == nil {
		file.variable = &File{table: newTable(es)}
	} else {
		file.table.problems = append(problemList{{Error: &Error{Origin: origin, Err: varErr}}}, file.table.problems...)
	}
	var entry *Error
	if errors.As(err, &entry) { // of the one file that docker reads
		file.table.problems = append(file.table.problems, problem{Error: entry})
	}
	return file, nil
}

// addVariable adds the entries of a value of DOCKER_AUTH_CONFIG, which it reads as strictly
// as docker does. On an error it does not change es.
func (es *entries) addVariable(origin Origin, value string) error {
	if strings.TrimSpace(value) == "" {
		return nil
	}
	if err := checkJSON([]byte(value)); err != nil {
		return err
	}
	top, err := readObject([]byte(value))
	if err != nil {
		return err
	}
	var auths []member
	for _, m := range top {
		if !strings.EqualFold(m.Key, "auths") {
			return fmt.Errorf("holds %s, but docker accepts only auths in this variable", keys.QuoteName(m.Key))
		}
		more, err := readObject(m.Value)
		if err != nil {
			return &fieldError{"auths", err}
		}
		auths = append(auths, more...)
	}
	for _, m := range auths {
		if err := checkVariableEntry(m); err != nil {
			return fmt.Errorf("key %s: %w", quote(keys.Redact(m.Key)), err)
		}
	}
	es.addAuths(origin, auths, true)
	return nil
}

// checkVariableEntry returns an error if docker refuses the whole variable because of an
// entry.
func checkVariableEntry(m member) error {
	fields, err := readObject(m.Value)
	if err != nil {
		return fmt.Errorf("entry %w", hinted(err, diagnose.Entry(m).NotAnObject()))
	}
	auth := ""
	for _, f := range fields {
		if !strings.EqualFold(f.Key, "auth") {
			return fmt.Errorf("holds %s, but docker accepts only auth in this variable", keys.QuoteName(f.Key))
		}
		if auth, _, err = readString(f.Value); err != nil {
			return fmt.Errorf("auth %w", err)
		}
	}
	if auth == "" {
		return errors.New("auth is missing, which docker requires in this variable")
	}
	username, _, err := decodeAuth(auth)
	if err == nil && username == "" {
		err = errors.New("does not hold a user name")
	}
	if err != nil {
		return fmt.Errorf("auth %w", hinted(err, diagnose.Auth(auth)))
	}
	return nil
}
