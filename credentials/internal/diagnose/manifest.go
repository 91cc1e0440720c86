package diagnose

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/internal/strictyaml"
	"sigs.k8s.io/yaml"
)

// maxObjects is the number of objects that are read of one manifest, with those in lists.
const maxObjects = 100_000

const (
	// maxListDepth is how deeply lists may be within lists.
	maxListDepth = 10
	// maxEffort is the number of bytes that are searched for the ends of documents. The
	// search for the end of one malformed document may go through the whole manifest.
	maxEffort = 64 << 20
)

// Manifest calls secret with the fields of each Secret in a manifest: YAML or JSON, one
// document or several, Lists of objects. It ignores objects of other kinds. If an object
// seems to be a Secret and is of another kind, or of none, fault says what is wrong with
// it; for a Secret fault is nil. secret returns an error if the object is left out.
//
// A text that is not a manifest in the right form is read as far as it can be understood.
// The result has one error for each document and each Secret that is left out, in their
// order, and one for each fault in the form of the manifest.
func Manifest(data []byte, secret func(fields []strictjson.Member, fault error) error) []error {
	m := manifest{secret: secret, effort: maxEffort}
	for _, text := range strictyaml.Split(plainLines(string(inUTF8(data)))) {
		if !strictyaml.Blank(text) {
			m.addText(text)
		}
		m.lines += strings.Count(text, "\n")
	}
	return m.problems
}

// A manifest is the state of one call of Manifest.
type manifest struct {
	secret   func(fields []strictjson.Member, fault error) error
	problems []error
	document int // the number of the document that is being read, from 1
	lines    int // the number of lines before the text that is being read
	objects  int // the number of objects that were read
	effort   int // the number of bytes that may still be searched for the ends of documents
}

// callSecret calls secret, and adds its error.
func (m *manifest) callSecret(fields []member, fault error) {
	if err := m.secret(fields, fault); err != nil {
		m.problem(err)
	}
}

// problem adds an error about the document, or about an object of it.
func (m *manifest) problem(err error) {
	m.problems = append(m.problems, fmt.Errorf("manifest, document %d: %w", m.document, err))
}

// addText reads the text between two markers. A text that begins with a bracket is JSON or
// YAML in flow style, and may be several documents that follow each other. Any other text
// is one document in block style; if that cannot be read, documents in flow style may
// follow it.
func (m *manifest) addText(text string) {
	for first, line := true, m.lines; ; first = false {
		rest := withoutComments(text)
		if rest == "" || m.objects > maxObjects {
			return
		}
		isBlock := !isFlow(rest)
		if !isBlock {
			line += strings.Count(text[:len(text)-len(rest)], "\n")
			text = rest
		}
		m.document++
		end, effort := documentEnd(text, first)
		if m.effort -= effort; m.effort < 0 {
			m.problem(errors.New("is left out with all that follows it, because too much of the manifest is malformed"))
			return
		}
		document := part{text: text[:end], line: line}
		line += strings.Count(document.text, "\n")
		text = text[end:]
		if !isBlock {
			m.addPart(document)
			continue
		}
		if first && text != "" && document.kindOf() != "" {
			if endsWithBlock(document.text) {
				m.problem(withNames(fmt.Errorf("has a text at line %d that belongs to the field before it and is not indented: indent each of its lines by spaces", line+1), secretNames(document.text)))
			} else {
				m.problem(runTogether(line+1, secretNames(document.text)))
			}
		}
		m.addBlock(document)
	}
}

// addBlock reads a document of YAML in block style. If the document cannot be read because
// it is several documents, addBlock reads each of them.
func (m *manifest) addBlock(p part) {
	documents := p.documents()
	if len(documents) < 2 {
		m.addPart(p)
		return
	}
	if _, err := p.json(); err == nil {
		m.addPart(p)
		return
	}
	m.problem(runTogether(documents[1].line+1, secretNames(p.text)))
	for i, document := range documents {
		if i > 0 {
			m.document++
		}
		m.addPart(document)
	}
}

// addPart reads a part of a manifest. If a list cannot be read as a whole, addPart reads
// each of its items by itself, so that a malformed item does not affect the others.
func (m *manifest) addPart(p part) {
	data, err := p.json()
	if err == nil {
		m.add(data, p.depth)
		return
	}
	if m.tooMany(p.text, p.depth) {
		return
	}
	before := len(m.problems)
	head, items, ok := p.items()
	if !ok {
		m.unreadable(p, err)
		return
	}
	const most = 10 // fields named items that are read
	for n := 0; ok && n < most; n++ {
		for _, item := range items {
			if m.objects > maxObjects {
				return
			}
			m.addPart(item)
		}
		p = head
		head, items, ok = p.items()
	}
	if _, bad := p.json(); bad != nil {
		m.unreadable(p, bad)
	} else if len(m.problems) == before && !errors.Is(err, strictyaml.ErrTwice) {
		m.unreadable(p, err)
	}
}

// tooMany counts an object, and reports whether there are too many objects, or the object
// is in too many lists. depth is the number of lists around it.
func (m *manifest) tooMany(text string, depth int) bool {
	m.objects++
	switch {
	case m.objects > maxObjects:
		if m.objects == maxObjects+1 { // only one error
			m.problem(errors.New("holds too many objects"))
		}
		return true
	case depth > maxListDepth:
		m.problem(withNames(fmt.Errorf("has lists within lists, more than %d deep", maxListDepth), secretNames(text)))
		return true
	}
	return false
}

// add reads one object, which may be a list of objects. If one object of a list cannot be
// read, the others are still read.
func (m *manifest) add(data []byte, depth int) {
	if m.tooMany(string(data), depth) {
		return
	}
	switch kind := strictjson.KindOf(data); {
	case kind == strictjson.KindNull && depth == 0: // an empty document
		return
	case kind == strictjson.KindArray:
		m.problem(withNames(errors.New("is an array, not an object: write its items under items of kind: List, or each as a document of its own"), secretNames(string(data))))
		return
	case kind != strictjson.KindObject:
		err := fmt.Errorf("is %s, not an object", strictjson.Describe(data))
		text, _ := strictjson.String(data)
		if decoded, ok := keys.DecodeBase64(text); ok && len(secretNames(string(decoded))) > 0 {
			err, text = fmt.Errorf("%w: it is base64 of a manifest", err), string(decoded)
		}
		m.problem(withNames(err, secretNames(text)))
		return
	}
	members, err := strictjson.Members(data)
	if err != nil {
		m.problem(errors.New("is not JSON"))
		return
	}
	object := readAsObject(members)
	switch kind := object.kind; {
	case kind == "Secret":
		m.callSecret(members, nil)
	case hasItemsByKind(kind), kind == "" && object.items != nil:
		if fault := object.listFault(); fault != nil {
			m.problem(fault)
		}
		m.addItems(kind, object.items, depth)
	case object.kindField == "" && isCredentialFile(members):
		m.problem(errors.New("is a credential file, not an object: ParseFile reads it"))
	case object.kindField == "" && len(members) == 1 && strings.HasPrefix(members[0].Key, "Error from server"):
		m.problem(errors.New("is an error message of kubectl, not an object"))
	default:
		if fault := object.secretFault(members); fault != nil {
			m.callSecret(members, fault)
		}
	}
}

// addItems reads the items of a list of objects.
func (m *manifest) addItems(kind string, items []byte, depth int) {
	if found := strictjson.KindOf(items); found == strictjson.KindNull {
		return
	} else if found != strictjson.KindArray {
		m.problem(withNames(fmt.Errorf("items is %s, not a list", strictjson.Describe(items)), secretNames(string(items))))
		return
	}
	list, err := strictjson.Elements(items)
	if err != nil {
		m.problem(errors.New("items is not a list"))
		return
	}
	for _, item := range list {
		if kind == "SecretList" { // its items may be without a kind
			item = withKind(item)
		}
		m.add(item, depth+1)
	}
}

// unreadable adds the error of a part that cannot be read, unless the part is clearly of a
// kind that is ignored.
func (m *manifest) unreadable(p part, err error) {
	kind, name, namespace := guessAbout(p.text)
	if json, lenient := yaml.YAMLToJSON([]byte(p.text)); lenient == nil && errors.Is(err, strictyaml.ErrTwice) {
		if !mayHoldSecrets(cmp.Or(kind, p.kind)) && !strings.Contains(p.text, "dockerc") {
			return
		}
		var other string
		readAbout(json, &other, &name, &namespace)
	}
	if hint := p.oddLine(); hint != "" {
		err = fmt.Errorf("%w: %s", err, hint)
	}
	self := ""
	switch kind = plainKind(cmp.Or(kind, p.kind)); {
	case keys.IsObjectName(name):
		if !keys.IsObjectName(namespace) {
			namespace = ""
		}
		self = fmt.Sprintf("%s %s", cmp.Or(kind, "object"), quote(keys.JoinName(namespace, name)))
		err = fmt.Errorf("%s %w", self, err)
	case name != "":
		err = fmt.Errorf("%s at line %d %w", cmp.Or(kind, "object"), p.firstLine(), err)
	case kind != "":
		err = fmt.Errorf("%s %w", kind, err)
	}
	m.problem(withNames(err, slices.DeleteFunc(secretNames(p.text), func(name string) bool { return name == self })))
}

// runTogether returns the error that a document begins at a line without a marker before
// it. names are the names of the Secrets in both documents.
func runTogether(line int, names []string) error {
	text := fmt.Sprintf("runs together with another one at line %d: write --- alone on a line between them", line)
	if len(names) > 0 {
		text += " (" + listed(names) + ")"
	}
	return errors.New(text)
}

// withNames returns an error that also names the Secrets that are not read because of err.
func withNames(err error, names []string) error {
	if len(names) == 0 {
		return err
	}
	return fmt.Errorf("%w; not read because of this: %s", err, listed(names))
}

// listed returns a text with the first few names, and the number of the others.
func listed(names []string) string {
	if more := len(names) - maxListed; more > 0 {
		names = append(names[:maxListed:maxListed], fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}
