package credentials

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/credentials/internal/diagnose"
	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/reference"
)

// An entry is one key with its credential.
type entry struct {
	text    string // the normalised key, by which entries are ordered
	cred    Credential
	pattern keys.Pattern
	err     error // why the normalised key cannot be read; only under the kubelet's rules

	warnings []problem // about the key and the login
}

// A table is a keyring of the entries of a file or of Secrets. A map holds the entries whose
// host has no wildcard, by host and path, so that a look-up needs one access for each part
// of the image's name. Entries with wildcards are grouped by the number of labels. A table
// is not changed after it is built.
type table struct {
	rules    Rules
	entries  []entry // in the order to try them
	problems problemList
	literal  map[string]int32
	next     []int32 // for each entry the next one with the same literal host and path; -1 after the last
	globs    map[shape][]int32
}

// A shape holds the properties of a host that must be equal for its wildcards to match.
type shape struct {
	labels int
	port   string
}

// newTable returns a table of entries, which it sorts by the reverse byte order of the
// normalised keys, as the kubelet does. Entries with the same key stay in their order.
func newTable(es entries) table {
	unsorted := es.list
	order := make([]int32, len(unsorted)) // positions are sorted because entries are large
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(unsorted[b].text, unsorted[a].text), cmp.Compare(a, b))
	})
	sorted := make([]entry, len(unsorted))
	for i, from := range order {
		sorted[i] = unsorted[from]
	}
	t := table{
		rules: es.rules, entries: sorted, problems: es.problems,
		next: make([]int32, len(sorted)), literal: make(map[string]int32, len(sorted)),
	}
	for i := len(sorted) - 1; i >= 0; i-- {
		e := &sorted[i]
		if e.err != nil || e.pattern.Empty || e.pattern.Labels() > 0 {
			continue
		}
		key := e.pattern.HostPort + e.pattern.Path
		t.next[i] = -1
		if first, ok := t.literal[key]; ok {
			t.next[i] = first
		}
		t.literal[key] = int32(i)
	}
	for i := range sorted {
		if p := &sorted[i].pattern; p.Labels() > 0 {
			if t.globs == nil {
				t.globs = map[shape][]int32{}
			}
			s := shape{p.Labels(), p.Port}
			t.globs[s] = append(t.globs[s], int32(i))
		}
	}
	return t
}

// find appends the positions of the entries that match a name, in order.
func (t *table) find(found []int32, name string) []int32 {
	if len(t.entries) == 0 {
		return found
	}
	target, err := t.rules.target(name)
	if err != nil {
		return found
	}
	full := name
	if !strings.HasPrefix(name, target.HostPort) {
		full = target.HostPort + target.Path
	} else if name[len(target.HostPort):] != target.Path { // the name has an empty port
		full = target.HostPort + target.Path
	}
	start := len(target.HostPort)
	for end := start; end <= len(full); end++ {
		if end == start || end == len(full) || t.rules.Kubelet || full[end] == '/' || full[end-1] == '/' {
			found = t.chain(found, full[:end])
		}
	}
	for _, i := range t.globs[shape{target.Labels, target.Port}] {
		if t.entries[i].pattern.Match(target) == keys.Matched {
			found = append(found, i)
		}
	}
	if len(found) == 0 && t.rules.Kubelet && keys.HubFallbackKubelet(name) {
		return t.hub(found)
	}
	slices.Sort(found)
	return found
}

// chain appends the entries of one literal host and path.
func (t *table) chain(found []int32, key string) []int32 {
	i, ok := t.literal[key]
	for ok && i >= 0 {
		found = append(found, i)
		i = t.next[i]
	}
	return found
}

// hub appends the entries to which the kubelet falls back for images of Docker Hub.
func (t *table) hub(found []int32) []int32 {
	for i := range t.entries {
		if t.entries[i].text == hubKey {
			found = append(found, int32(i))
		}
	}
	return found
}

const hubKey = "index.docker.io"

// The words with which a note says why an entry is a candidate or not, beyond those of
// keys.Result.
const (
	hubFallback   keys.Result = "matches because no other key does, and the image is Docker Hub's"
	repeated      keys.Result = "matches, but the same credential comes before it"
	superseded    keys.Result = "matches, but a Secret of the Pod's namespace holds the same credential"
	malformedName keys.Result = "the image's name is malformed"
)

// candidates yields the credentials for an image, in order.
func (t *table) candidates(name string) iter.Seq[Credential] {
	return func(yield func(Credential) bool) { t.visit(name, "", yield) }
}

// visit calls yield with each credential for an image, in order, until yield returns false.
// namespace is that of the Pod; "" means no Pod.
func (t *table) visit(name, namespace string, yield func(Credential) bool) {
	var room [16]int32
	found := t.find(room[:0], name)
	hidden := t.hidden(found, namespace)
	for at, i := range found {
		if hidden[at] == "" && !yield(t.entries[i].cred) {
			return
		}
	}
}

// hidden returns for each of the entries found the reason for which it is left out; "" if it
// is not. An entry is left out if one with the same credential comes before it. An entry of
// a Secret of another namespace is also left out if a later one of the Pod's namespace has
// the same credential.
func (t *table) hidden(found []int32, namespace string) []keys.Result {
	out := make([]keys.Result, len(found))
	if t.rules.Kubelet {
		return out
	}
	seen := seenSet[Credential]{}
	for _, foreign := range []bool{false, true} { // first the entries that the Pod may use
		for at, i := range found {
			if c := t.entries[i].cred; c.Origin.foreignTo(namespace) == foreign && !seen.add(c.bare(), foreign) {
				out[at] = repeated
				if foreign && seen[c.bare()] {
					out[at] = superseded
				}
			}
		}
	}
	return out
}

func (t *table) fingerprint(ref reference.Reference) uint64 {
	var room [16]int32
	h := newHash()
	for _, i := range t.find(room[:0], ref.Name()) {
		t.entries[i].cred.hash(h)
	}
	return h.Sum64()
}

// explain yields a note for each entry, including those that visit leaves out, and then
// one for each problem that may concern the image.
func (t *table) explain(ref reference.Reference, namespace string) iter.Seq[Note] {
	if ref == (reference.Reference{}) {
		return t.problems.all()
	}
	return inTurn(t.explainEntries(ref.Name(), namespace), t.problems.notes(t.rules, ref))
}

func (t *table) explainEntries(name, namespace string) iter.Seq[Note] {
	return func(yield func(Note) bool) {
		target, err := t.rules.target(name)
		found := t.find(nil, name)
		hidden := t.hidden(found, namespace)
		for i := range t.entries {
			e := &t.entries[i]
			note := Note{Origin: e.cred.Origin, Username: e.cred.Username}
			why := malformedName
			switch {
			case err != nil:
			case e.err != nil:
				why = keys.Result(e.err.Error())
			default:
				why = e.pattern.Match(target)
			}
			at, matches := slices.BinarySearch(found, int32(i))
			note.Matched = matches
			if note.Matched && why != keys.Matched {
				why = hubFallback
			}
			if note.Matched {
				note.Fingerprint = e.cred.fingerprint()
			}
			if matches && hidden[at] != "" {
				note.Matched, why = false, hidden[at]
			}
			note.Why = string(why)
			note.add(e.warnings, target)
			if note.Err == nil && len(found) == 0 && (why == keys.OtherPort || why == keys.OtherPath) {
				note.Err = &Error{Origin: note.Origin, Err: warning(ErrOtherImages, note.Why)}
			}
			if !yield(note) {
				return
			}
		}
	}
}

// add adds the warnings about the note's entry to Why. Err becomes the first warning that
// concerns the image.
func (n *Note) add(warnings []problem, t keys.Name) {
	for _, w := range warnings {
		n.Why += "; " + w.Err.Error()
		if n.Err == nil && w.concerns(t) {
			n.Err = w.Error
		}
	}
}

// lookup is the Lookup of a keyring that consists of one table.
func (t *table) lookup(ref reference.Reference, namespace string) iter.Seq2[Credential, error] {
	return func(yield func(Credential, error) bool) {
		t.visit(ref.Name(), namespace, func(c Credential) bool { return yield(c, nil) })
	}
}

// entries collects the entries and the problems of one or more sources.
type entries struct {
	rules    Rules
	list     []entry
	problems problemList
}

// problem notes an error about what was left out of origin, or a warning about origin.
func (es *entries) problem(origin Origin, err error) {
	es.note(problem{Error: &Error{Origin: origin, Err: err}})
}

func (es *entries) note(p problem) {
	p.Origin.Key = keys.Redact(p.Origin.Key)
	es.problems = append(es.problems, p)
}

// aboutEntry notes a problem that concerns only the images that the origin's key matches. If
// the key cannot be read, it concerns all images.
func (es *entries) aboutEntry(origin Origin, err error) {
	p := problem{Error: &Error{Origin: origin, Err: err}}
	if text, err := es.rules.normalize(origin.Key); err == nil {
		if k, err := es.rules.compile(text); err == nil {
			p.about = []keys.Pattern{k}
		}
	}
	es.note(p)
}

// addAuths adds the entries of an auths object. If a key is written twice, its last value
// counts, in its first place. addAuths returns the entries without a credential: docker
// writes such markers for logins that a helper keeps. legacy says that the entries are not
// in a field auths.
func (es *entries) addAuths(origin Origin, auths []member, legacy bool) (markers []member) {
	last := map[string][]byte{}
	for _, m := range auths {
		if before, ok := last[m.Key]; ok && !bytes.Equal(before, m.Value) && (diagnose.Entry{Value: before}).HasLogin() {
			origin.Key = m.Key
			es.aboutEntry(origin, warning(ErrGivesNothing, "the key is written again after this entry, and the last one counts: write each key once"))
		}
		last[m.Key] = m.Value
	}
	for _, m := range lastOfEach(auths) {
		origin.Key = m.Key
		c, advice, err := es.readEntry(m)
		if (err != nil || c.Anonymous()) && es.misplaced(origin, m, err, legacy) {
			continue
		}
		if err != nil {
			es.aboutEntry(origin, err)
			continue
		}
		if c.Anonymous() && !es.rules.Kubelet {
			markers = append(markers, m)
			continue
		}
		c.Origin = origin
		es.add(c, advice...)
		for _, hint := range diagnose.Entry(m).Within() {
			es.problem(origin, warning(ErrGivesNothing, hint))
		}
	}
	return markers
}

// misplaced notes a problem if something else is in place of an entry without a
// credential. It reports whether the entry is left out because of this. err is the reason
// for which the entry cannot be read; nil if it can be read.
func (es *entries) misplaced(origin Origin, m member, err error, legacy bool) bool {
	isLeftOut := err != nil || !es.rules.Kubelet
	what, hint := diagnose.Entry(m).Misplaced(legacy)
	switch {
	case what == diagnose.NotMisplaced, what == diagnose.ConfigField && !isLeftOut:
		return false
	case what == diagnose.ConfigField:
		es.problem(origin, errors.New(hint))
	case what == diagnose.Wrapped:
		origin.Key = "" // the problem concerns all images, because the entries inside are not read
		if err != nil {
			es.problem(origin, fmt.Errorf("key %s: entry is %s, not an object: %s", quote(keys.Redact(m.Key)), strictjson.Describe(m.Value), hint))
		} else {
			es.problem(origin, warning(ErrGivesNothing, hint))
		}
	}
	return isLeftOut
}

// add adds a credential under the key of its Origin, with warnings about it.
func (es *entries) add(c Credential, advice ...error) {
	e := entry{cred: c}
	var err error
	if e.text, err = es.rules.normalize(c.Origin.Key); err == nil {
		e.pattern, err = es.rules.compile(e.text)
		if es.rules.Kubelet {
			e.err, err = err, nil // the kubelet keeps such a key, which never matches
		}
	}
	if err != nil {
		es.problem(c.Origin, diagnose.BadKey(c.Origin.Key, err))
		return
	}
	if e.err == nil {
		e.warn(es, c.Origin, advice)
	}
	e.cred.Origin.Key = keys.Redact(c.Origin.Key)
	es.list = append(es.list, e)
}

// warn notes the warnings about an entry: those about its login, which are advice, and
// one about its key.
func (e *entry) warn(es *entries, origin Origin, advice []error) {
	for _, err := range advice {
		e.warnings = append(e.warnings, problem{Error: &Error{Origin: origin, Err: err}, about: []keys.Pattern{e.pattern}, withEntry: true})
	}
	if hint := diagnose.Key(origin.Key, e.pattern); hint.Text != "" {
		var reason error = errKeyMatches
		if hint.Matches {
			reason = ErrLooksWrong
		}
		e.warnings = append(e.warnings, problem{Error: &Error{Origin: origin, Err: warning(reason, hint.Text)}, withEntry: true, about: hint.About})
	}
	for _, p := range e.warnings {
		es.note(p)
	}
}

func lastOfEach(members []member) []member {
	place := make(map[string]int, len(members))
	out := members[:0:0]
	for _, m := range members {
		if i, ok := place[m.Key]; ok {
			out[i].Value = m.Value
			continue
		}
		place[m.Key] = len(out)
		out = append(out, m)
	}
	return out
}

// A login holds the fields of one entry as the text has them.
type login struct {
	username, password, auth, identity, registry, email string
}

// fields maps the names of the fields that the rules read to their places.
func (l *login) fields(rules Rules) map[string]*string {
	if rules.Kubelet {
		return map[string]*string{"username": &l.username, "password": &l.password, "auth": &l.auth, "email": &l.email}
	}
	return map[string]*string{
		"username": &l.username, "password": &l.password, "auth": &l.auth,
		"identitytoken": &l.identity, "registrytoken": &l.registry,
	}
}

// odd returns warnings about a login that can be read and looks wrong. c is the credential
// that it gives.
func (l *login) odd(c Credential) (warnings []error) {
	written := diagnose.Login{Auth: l.auth, Username: l.username, Password: l.password, IdentityToken: l.identity, RegistryToken: l.registry}
	for _, hint := range written.Odd(c.Username, c.Password.Reveal()) {
		warnings = append(warnings, warning(ErrLooksWrong, hint))
	}
	return warnings
}

// readEntry reads one entry of an auths object. advice are warnings about the entry.
func (es *entries) readEntry(m member) (c Credential, advice []error, err error) {
	members, err := readObject(m.Value)
	if err != nil {
		return c, nil, fmt.Errorf("entry %w", hinted(err, diagnose.Entry(m).NotAnObject()))
	}
	var l login
	fields := l.fields(es.rules)
	twice := ""
	for _, m := range members {
		name := strings.ToLower(m.Key)
		if name == "email" && !es.rules.Kubelet {
			if s, _, err := readString(m.Value); err == nil { // else it is ignored, as it is not needed
				l.email = s
			}
			continue
		}
		field, ok := fields[name]
		if !ok {
			continue
		}
		s, isNull, err := readString(m.Value)
		if err != nil {
			if name == "auth" && (diagnose.Entry{Value: m.Value}).HasLogin() {
				err = fmt.Errorf("%w: leave out auth and the braces around the fields that it holds", err)
			}
			return c, nil, fmt.Errorf("%s %w", name, err)
		}
		if isNull {
			continue
		}
		if *field != "" && *field != s {
			twice = name
		}
		*field = s
	}
	c.Username, c.Email = l.username, l.email
	password := l.password
	if l.auth != "" {
		if c.Username, password, err = decodeAuth(l.auth); err != nil {
			return Credential{}, nil, fmt.Errorf("auth %w", hinted(err, diagnose.Auth(l.auth)))
		}
		if !es.rules.Kubelet {
			password = strings.TrimRight(password, "\x00") // padding of old docker versions
		}
	}
	for _, token := range []string{l.identity, l.registry} {
		if strings.ContainsFunc(token, keys.IsControl) {
			return Credential{}, nil, errors.New("token holds a control character")
		}
	}
	c.Password, c.IdentityToken, c.RegistryToken = Conceal(password), Conceal(l.identity), Conceal(l.registry)
	advice = l.odd(c)
	if twice != "" {
		advice = append(advice, warning(ErrLooksWrong, twice+" is in the entry twice, and the last one counts"))
	}
	return c, advice, nil
}

var errNoColon = errors.New("holds no colon between user name and password")

// decodeAuth reads base64 of user:password, with or without padding. It ignores line ends.
// Any other space is an error.
func decodeAuth(auth string) (username, password string, err error) {
	encoding := base64.RawStdEncoding
	if strings.HasSuffix(strings.TrimRight(auth, "\r\n"), "=") {
		encoding = base64.StdEncoding
	}
	decoded, err := encoding.DecodeString(auth)
	if err != nil {
		return "", "", errors.New("is not base64")
	}
	username, password, ok := strings.Cut(string(decoded), ":")
	if !ok {
		return "", "", errNoColon
	}
	return username, password, nil
}

// problemsFor returns the errors about entries that were left out, and the warnings that may
// be the reason for which an image has no good credential.
func (t *table) problemsFor(name string) []error {
	target, err := t.rules.target(name)
	var errs []error
	for _, p := range t.problems {
		if !p.Warning() || err == nil && p.concerns(target) {
			errs = append(errs, p.Error)
		}
	}
	return errs
}
