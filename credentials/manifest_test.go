package credentials

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/pullkit/pullkit/internal/rounds"
	"github.com/stretchr/testify/assert"
)

// readNames returns the names of Secrets.
func readNames(secrets []Secret) (names []string) {
	for _, s := range secrets {
		names = append(names, s.Name)
	}
	return names
}

// TestReadablePartsOfAManifestAreRead parses manifests of which one part cannot be read.
// All other Secrets are read, and the error names that part as exactly as possible.
func TestReadablePartsOfAManifestAreRead(t *testing.T) {
	inJSON := func(name string) string {
		return fmt.Sprintf(`{"kind":"Secret","metadata":{"name":%q,"namespace":"web"},"data":{}}`, name)
	}
	pretty := func(name string) string {
		return "{\n  \"kind\": \"Secret\",\n  \"metadata\": {\n    \"name\": \"" + name + "\"\n  }\n}\n"
	}
	const badJSON = `{"kind":"Secret","metadata":{"name":"bad","namespace":"web"},"data":{"x":@}}`
	const list = "apiVersion: v1\nkind: List\nitems:\n"
	item := func(name string) string {
		return "- kind: Secret\n  metadata:\n    name: " + name + "\n    namespace: web\n  data: {}\n"
	}
	indent := func(s string) string {
		return "  " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n  ") + "\n"
	}
	const named = `secret "web/bad"`
	for name, tt := range map[string]struct {
		text string
		read []string
		want string
	}{
		"List, data twice":          {list + item("a") + item("bad") + "  data: {}\n" + item("b"), []string{"a", "b"}, named + " holds a field twice: line 14"},
		"List, name twice":          {list + item("a") + "- kind: Secret\n  metadata:\n    name: x\n    namespace: web\n    name: bad\n" + item("b"), []string{"a", "b"}, named + " holds a field twice: line 13"},
		"List, first item":          {list + item("bad") + "  type: a\n  type: b\n" + item("b"), []string{"b"}, named + " holds a field twice"},
		"List, indented":            {list + indent(item("a")+item("bad")+"  data: {}\n") + indent(item("b")), []string{"a", "b"}, named + " holds a field twice"},
		"List, items first":         {"items:\n" + item("a") + item("bad") + "  data: {}\nkind: List\n", []string{"a"}, named + " holds a field twice"},
		"List, dash alone":          {list + "-\n  kind: Secret\n  metadata: {name: a}\n-\n  kind: Secret\n  metadata: {name: bad, namespace: web}\n  data: 1\n  data: 2\n", []string{"a"}, named + " holds a field twice"},
		"List, other kind":          {list + item("a") + "- kind: ConfigMap\n  data: {}\n  data: {}\n" + item("b"), []string{"a", "b"}, ""},
		"List, template":            {list + item("a") + item("bad") + "  stringData:\n    x: {{ .Values.x }}\n" + item("b"), []string{"a", "b"}, named + " is not YAML: a template was left in it ({{)"},
		"List, a tab":               {list + item("a") + item("bad") + "  stringData:\n\tx: y\n" + item("b"), []string{"a", "b"}, named + " is not YAML"},
		"List in a List":            {list + item("a") + "- kind: List\n  items:\n" + indent(item("c")+item("bad")+"  data: {}\n") + item("b"), []string{"a", "c", "b"}, named + " holds a field twice"},
		"List, comments":            {"# x\n" + list + "# y\n" + item("a") + "  # z\n# w\n" + item("bad") + "  data: {}\n\n" + item("b") + "# end\n", []string{"a", "b"}, named + " holds a field twice"},
		"SecretList":                {"kind: SecretList\nitems:\n- metadata: {name: a}\n- metadata:\n    name: bad\n    namespace: web\n  data: {}\n  data: {}\n", []string{"a"}, named + " holds a field twice"},
		"List in flow style":        {"{kind: List, items: [{kind: Secret, metadata: {name: a}}, {kind: Secret, metadata: {name: bad, namespace: web}, data: {}, data: {}}, {kind: Secret, metadata: {name: b}}]}", []string{"a", "b"}, named + " holds a field twice: line 1"},
		"items in flow style":       {"kind: List\nitems: [{kind: Secret, metadata: {name: a}},\n  {kind: Secret, metadata: {name: bad, namespace: web}, data: {}, data: {}},\n  {kind: Secret, metadata: {name: b}}]\n", []string{"a", "b"}, named + " holds a field twice: line 3"},
		"List in JSON":              {`{"kind":"List","items":[` + inJSON("a") + `,` + badJSON + `,` + inJSON("b") + `]}`, []string{"a", "b"}, named + " is not JSON: line 1"},
		"List in pretty JSON":       {"{\n\"kind\": \"List\",\n\"items\": [\n" + pretty("a") + ",\n" + badJSON + ",\n" + pretty("b") + "]\n}\n" + inJSON("c"), []string{"a", "b", "c"}, named},
		"the List itself":           {"kind: List\nkind: List\nmetadata:\n  name: all\nitems:\n" + item("a"), []string{"a"}, `document 1: list "all" holds a field twice: line 2`},
		"a Secret alone":            {item("bad")[2:5] + ": x\n" + strings.ReplaceAll(item("bad"), "- ", "  ") + "  data: {}\n", nil, "is not YAML"},
		"JSON, one malformed":       {inJSON("a") + "\n" + badJSON + "\n" + inJSON("b"), []string{"a", "b"}, "document 2: " + named + " is not JSON: line 2"},
		"JSON, the first malformed": {badJSON + "\n" + inJSON("a") + "\n" + inJSON("b"), []string{"a", "b"}, "document 1: " + named},
		"JSON, on one line":         {inJSON("a") + badJSON + inJSON("b"), []string{"a", "b"}, "document 2: " + named},
		"JSON, pretty":              {pretty("a") + strings.Replace(pretty("bad"), `"Secret",`, `"Secret"`, 1) + pretty("b"), []string{"a", "b"}, `document 2: secret "bad"`},
		"JSON, brace missing":       {inJSON("a") + "\n" + strings.TrimSuffix(inJSON("bad"), "}") + "\n" + inJSON("b"), []string{"a", "b"}, "document 2: " + named},
		"JSON, quote missing":       {inJSON("a") + "\n" + strings.Replace(inJSON("bad"), `"data"`, `"data`, 1) + "\n" + inJSON("b"), []string{"a", "b"}, "document 2: " + named},
		"JSON, brace too many":      {inJSON("a") + "}\n" + inJSON("b"), []string{"a", "b"}, "document 2"},
		"JSON, cut off":             {inJSON("a") + "\n" + inJSON("bad")[:70], []string{"a"}, "document 2: " + named},
		"JSON, template":            {inJSON("a") + "\n" + strings.Replace(inJSON("bad"), `"data":{}`, `"data":{{ .Values.data }}`, 1) + "\n" + inJSON("b"), []string{"a", "b"}, named},
		"JSON, text after it":       {inJSON("a") + " x\n" + inJSON("b"), []string{"a", "b"}, "document 2"},
		"JSON, then block YAML":     {inJSON("a") + "\nkind: Secret\nmetadata:\n  name: b\n", []string{"a", "b"}, ""},
		"JSON, comma too many":      {strings.Replace(inJSON("a"), `{}}`, `{},}`, 1) + "\n" + inJSON("b"), []string{"a", "b"}, ""},
		"flow style, both":          {"{kind: Secret, metadata: {name: a}}\n{kind: Secret, metadata: {name: b}}", []string{"a", "b"}, ""},
		"flow style, malformed":     {"{kind: Secret, metadata: {name: bad, namespace: web}, x: @}\n" + inJSON("b"), []string{"b"}, "document 1: " + named + " is not YAML"},
		"metadata in flow style":    {"kind: Secret\nmetadata: {name: bad, namespace: web}\ndata:\n  x: {{ .X }}\n", nil, named + " is not YAML"},
		"metadata quoted":           {"kind: Secret\nmetadata: {\"name\": \"bad\", 'namespace': 'web'}\ndata:\n  x: {{ .X }}\n", nil, named + " is not YAML"},
		"metadata on lines":         {"kind: Secret\nmetadata: {\n  name: bad,\n  namespace: web, labels: {name: x}\n}\ndata:\n  x: {{ .X }}\n", nil, named + " is not YAML"},
		"fields quoted":             {"\"kind\": \"Secret\"\n\"metadata\":\n  \"name\": bad # it is\n  'namespace': web\ndata:\n  x: {{ .X }}\n", nil, named + " is not YAML"},
		"labels before the name":    {"kind: Secret\nmetadata: {labels: {name: no}, name: bad, namespace: web}\nx: {{ .X }}\n", nil, named + " is not YAML"},
	} {
		for _, tail := range []string{"", "\n---\n" + inJSON("last")} {
			secrets, err := ParseSecrets([]byte(tt.text + tail))
			read := tt.read
			if tail != "" {
				read = append(read[:len(read):len(read)], "last")
			}
			assert.Equal(t, read, readNames(secrets), name)
			if tt.want == "" {
				assert.NoError(t, err, name)
			} else {
				assert.ErrorContains(t, err, tt.want, name)
			}
		}
	}

	// Malformed text takes time in proportion to its length.
	for _, part := range []string{`{"a":`, "{", "{\n", `{"items":[`, "kind: List\nitems:\n- ", "[{", "{kind: List, items: [", "{\"kind\": @}\n", "- {{\n", "kind:", " ---\nkind: Secret\n", "{\n} x\n"} {
		text := strings.Repeat(part, rounds.Of(500_000)/len(part))
		if part[0] == '-' {
			text = "kind: List\nitems:\n" + text
		}
		_, err := ParseSecrets([]byte(text))
		assert.Error(t, err)
		assert.Less(t, len(err.Error()), 3000)
	}
}

// TestEachSecretOfAManifestIsReadOrNamed parses manifests in many wrong forms. Each Secret
// is read, or the error has its name.
func TestEachSecretOfAManifestIsReadOrNamed(t *testing.T) {
	block := func(name string) string {
		return "apiVersion: v1\nkind: Secret\nmetadata:\n  name: " + name + "\n  namespace: web\ntype: kubernetes.io/dockerconfigjson\ndata:\n  .dockerconfigjson: e30=\n"
	}
	sorted := func(name string) string { // as kubectl get -o yaml writes it
		return "apiVersion: v1\ndata:\n  .dockerconfigjson: e30=\nkind: Secret\nmetadata:\n  name: " + name + "\n  namespace: web\ntype: kubernetes.io/dockerconfigjson\n"
	}
	inJSON := func(name string) string {
		return `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"` + name + `","namespace":"web"},"data":{}}`
	}
	item := func(name string) string {
		return "- kind: Secret\n  metadata:\n    name: " + name + "\n    namespace: web\n  data: {}\n"
	}
	inUTF16 := func(text string, bigEndian, marked bool) string {
		var b strings.Builder
		if marked {
			text = "\ufeff" + text
		}
		for _, c := range utf16.Encode([]rune(text)) {
			low, high := byte(c), byte(c>>8)
			if bigEndian {
				low, high = high, low
			}
			b.Write([]byte{low, high})
		}
		return b.String()
	}
	const configMap = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: cm\ndata: {}\n"
	const marker = "write --- alone on a line"
	two := block("a") + "---\n" + block("b")
	for name, tt := range map[string]struct{ text, names, want string }{
		// Encodings and line ends. None of these is an error.
		"UTF-16":                        {inUTF16(two, false, true), "a b", ""},
		"UTF-16, CRLF":                  {inUTF16(strings.ReplaceAll(two, "\n", "\r\n"), false, true), "a b", ""},
		"UTF-16, big endian":            {inUTF16(two, true, true), "a b", ""},
		"UTF-16, no mark":               {inUTF16(two, false, false), "a b", ""},
		"UTF-16, big endian, no mark":   {inUTF16(two, true, false), "a b", ""},
		"UTF-16, JSON":                  {inUTF16(inJSON("a")+"\n"+inJSON("b"), false, true), "a b", ""},
		"line separators":               {strings.ReplaceAll(two, "\n", "\u2028"), "a b", ""},
		"paragraph separators":          {strings.ReplaceAll(two, "\n", "\u2029"), "a b", ""},
		"next lines":                    {strings.ReplaceAll(two, "\n", "\u0085"), "a b", ""},
		"carriage returns":              {strings.ReplaceAll(two, "\n", "\r"), "a b", ""},
		"a file with a mark, joined":    {block("a") + "---\n\ufeff" + block("b"), "a b", ""},
		"a mark before a marker":        {block("a") + "\ufeff---\n" + block("b"), "a b", ""},
		"a mark after a marker":         {block("a") + "---\n\ufeff---\n" + block("b"), "a b", ""},
		"JSON with a separator in text": {strings.Replace(inJSON("a"), `"data":{}`, "\"stringData\":{\"x\":\"y\u2028z\"}", 1) + "\n" + inJSON("b"), "a b", ""},

		// Documents that run together.
		"no marker":               {block("a") + block("b"), "a b", marker},
		"no marker, sorted":       {sorted("a") + sorted("b") + sorted("c"), "a b c", marker},
		"no marker, ConfigMap":    {block("a") + configMap, "a", marker},
		"ConfigMap, no marker":    {configMap + block("a"), "a", marker},
		"four dashes":             {block("a") + "----\n" + block("b"), "a b", marker},
		"a space before":          {block("a") + " ---\n" + block("b"), "a b", marker},
		"a dash of print":         {block("a") + "—\n" + block("b"), "a b", marker},
		"dashes of print":         {block("a") + "–––\n" + block("b"), "a b", marker},
		"two dashes":              {block("a") + "--\n" + block("b"), "a b", ""},
		"no-break space":          {block("a") + "---\u00a0\n" + block("b"), "a b", marker},
		"a comment at the marker": {block("a") + "---# x\n" + block("b"), "a b", marker},
		"JSON at the marker":      {block("a") + "---" + inJSON("b") + "\n", "a b", marker},
		"YAML at the marker":      {block("a") + "---" + block("b"), "a b", marker},
		"then JSON":               {block("a") + inJSON("b") + "\n" + inJSON("c"), "a b c", marker},
		"List, then a Secret":     {"kind: List\nmetadata: {}\nitems:\n" + item("a") + block("b"), "a b", marker},
		"a warning, JSON":         {"Warning: x is deprecated\n" + inJSON("a") + "\n" + inJSON("b"), "a b", ""},
		"a sentence, JSON":        {"x is deprecated\n" + inJSON("a") + "\n" + inJSON("b"), "a b", "is a string, not an object"},
		"comments of JSON5":       {"// x\n" + inJSON("a") + "\n// y\n" + inJSON("b"), "a b", "is a string, not an object"},
		"template around JSON":    {"{{- if .Values.x }}\n" + inJSON("a") + "\n{{- end }}\n" + inJSON("b"), "a b", "a template was left in it"},
		"template in JSON":        {inJSON("a") + "\n{{- if .Values.x }}\n" + inJSON("b") + "\n{{ end }}\n" + inJSON("c"), "a b c", "a template was left in it"},
		"indented, then not":      {" kind: ConfigMap\n metadata: {name: cm}\n" + block("a"), "a", "is not YAML: line 3"},
		"list, then not":          {"- x\n" + block("a"), "a", "is not YAML: line 2"},

		// Fields that are there twice.
		"kind twice":           {block("a") + "kind: ConfigMap\n", "a", "holds a field twice"},
		"kind twice, JSON":     {strings.TrimSuffix(inJSON("a"), "}") + `,"kind":"ConfigMap"}`, "a", "holds a field twice: line 1"},
		"kind twice, reversed": {`{"kind":"ConfigMap",` + inJSON("a")[1:], "a", "holds a field twice"},
		"kind twice, item":     {"kind: List\nitems:\n" + item("a") + "  kind: ConfigMap\n" + item("b"), "a b", "holds a field twice"},
		"items twice":          {`{"kind":"List","items":[` + inJSON("a") + `],"items":[` + inJSON("b") + `]}`, "a b", "list holds a field twice"},
		"items twice, empty":   {`{"kind":"List","items":[` + inJSON("a") + `],"items":[]}`, "a", "list holds a field twice"},
		"items twice, YAML":    {"kind: List\nitems:\n" + item("a") + "items:\n" + item("b"), "a b", "list holds a field twice"},
		"metadata twice":       {strings.TrimSuffix(inJSON("a"), "}") + `,"metadata":{"name":"b","namespace":"web"}}`, "a b", "holds a field twice"},
		"data twice":           {strings.TrimSuffix(inJSON("a"), "}") + `,"data":{"x":"e30="}}`, "a", `secret "web/a" holds a field twice: line 1`},
		"a name of data twice": {inJSON("b") + "\n" + strings.Replace(inJSON("a"), `"data":{}`, `"data":{"x":"e30=","x":""}`, 1), "a b", `secret "web/a" holds a field twice: line 2`},
		"escaped":              {strings.TrimSuffix(inJSON("a"), "}") + `,"d\u0061ta":{"x":"e30="}}`, "a", `secret "web/a" holds a field twice`},
		"in an item, JSON":     {`{"kind":"List","items":[` + strings.TrimSuffix(inJSON("a"), "}") + `,"data":{}},` + inJSON("b") + `]}`, "a b", `secret "web/a" holds a field twice`},

		// Kinds and lists with other names.
		"no kind":             {strings.Replace(block("a"), "kind: Secret\n", "", 1), "a", "has no kind: write kind: Secret"},
		"no kind, no type":    {"metadata: {name: a, namespace: web}\nstringData: {x: y}\n", "a", "has no kind: write kind: Secret"},
		"small letters":       {strings.Replace(block("a"), "Secret", "secret", 1), "a", `is of kind "secret": write kind: Secret`},
		"plural":              {strings.Replace(block("a"), "Secret", "Secrets", 1), "a", `is of kind "Secrets"`},
		"mistyped":            {strings.Replace(block("a"), "Secret", "Secert", 1), "a", `is of kind "Secert"`},
		"a letter missing":    {strings.Replace(block("a"), "Secret", "Scret", 1), "a", `is of kind "Scret"`},
		"a space":             {strings.Replace(block("a"), "Secret", `"Secret "`, 1), "a", `is of kind "Secret "`},
		"kind null":           {strings.Replace(block("a"), "Secret", "null", 1), "a", "has no kind"},
		"kind a list":         {strings.Replace(block("a"), "Secret", "[Secret]", 1), "a", "has a kind that is an array"},
		"kind in capitals":    {strings.Replace(block("a"), "kind", "Kind", 1), "a", `has a field "Kind" and no kind`},
		"kind with a space":   {strings.Replace(inJSON("a"), `"kind"`, `"kind "`, 1), "a", `has a field "kind " and no kind`},
		"List, small letters": {`{"kind":"list","items":[` + inJSON("a") + `]}`, "a", `is of kind "list": write kind: List`},
		"List without kind":   {`{"items":[` + inJSON("a") + `]}`, "a", "has items and no kind: write kind: List"},
		"Items":               {`{"kind":"List","Items":[` + inJSON("a") + `]}`, "a", `has a field "Items", which must be written items`},
		"items an object":     {`{"kind":"List","items":` + inJSON("a") + `}`, "a", "items is an object, not a list"},
		"items a map":         {`{"kind":"List","items":{"x":` + inJSON("a") + `,"y":` + inJSON("b") + `}}`, "a b", "items is an object, not a list"},
		"items a map, Secret": {`{"kind":"SecretList","items":{"x":` + inJSON("a") + `}}`, "a", "items is an object, not a list"},
		"items a string":      {`{"kind":"List","items":"x"}`, "", "items is a string, not a list"},
		"array":               {`[` + inJSON("a") + `,` + inJSON("b") + `]` + "\n---\n" + inJSON("c"), "a b c", "is an array, not an object: write its items under items of kind: List"},
		"array, YAML":         {item("a") + item("b"), "a b", "is an array, not an object"},
		"array without comma": {`[` + inJSON("a") + ` ` + inJSON("b") + "]\n" + inJSON("c"), "a b c", "is not"},
		"array, then objects": {`[` + inJSON("a") + "]\n" + inJSON("b"), "a b", "is an array"},
		"null in a List":      {`{"kind":"List","items":[` + inJSON("a") + `,null,` + inJSON("b") + `]}`, "a b", "is a null, not an object"},
		"a dash alone":        {"kind: List\nitems:\n" + item("a") + "-\n" + item("b"), "a b", "is a null, not an object"},
		"no comma in a List":  {`{"kind":"List","items":[` + inJSON("a") + ` ` + inJSON("b") + ` ` + inJSON("c") + `]}`, "a b c", "list is not JSON"},
		"no brace in a List":  {`{"kind":"List","items":[` + strings.TrimSuffix(inJSON("a"), "}") + `,` + inJSON("b") + `]}`, "a b", "is not JSON"},
		"a deep List":         {strings.Repeat(`{"kind":"List","items":[`, 12) + inJSON("a") + strings.Repeat("]}", 12), "a", "has lists within lists, more than 10 deep"},
		"base64":              {base64.StdEncoding.EncodeToString([]byte(two)), "a b", "it is base64 of a manifest"},
	} {
		for _, tail := range []string{"", "\n---\n" + inJSON("last")} {
			if strings.ContainsRune(tt.text, 0) {
				tail = ""
			}
			secrets, err := ParseSecrets([]byte(tt.text + tail))
			read := readNames(secrets)
			if tail != "" && assert.Contains(t, read, "last", name) {
				read = read[:len(read)-1]
			}
			for _, secret := range strings.Fields(tt.names) {
				if !slices.Contains(read, secret) {
					assert.ErrorContains(t, err, `secret "web/`+secret+`"`, name)
				}
			}
			switch {
			case tt.want != "":
				assert.ErrorContains(t, err, tt.want, name)
			case len(read) == len(strings.Fields(tt.names)):
				assert.NoError(t, err, name)
			default:
				assert.Error(t, err, name)
			}
		}
	}

	// An object that is clearly of another kind is ignored, even if it is malformed.
	for _, text := range []string{
		configMap, configMap + "data: {}\n", `{"kind":"ConfigMap","data":{},"data":{}}`, "kind: SealedSecret\nspec:\n  template:\n    type: kubernetes.io/dockerconfigjson\n",
		"kind: ExternalSecret\nmetadata: {name: x}\n", "kind: List\nitems: []\n", "kind: List\nitems:\n", "kind: List\n", "kind: SecretStore\n", "x: y\n", "null", "~\n", "{}", "kind: Pod\nitems: 5\n",
		"metadata: {name: x}\n", "type: x\n", "kind: PodList\nitems:\n- kind: Pod\n",
	} {
		secrets, err := ParseSecrets([]byte(text))
		assert.NoError(t, err, text)
		assert.Empty(t, secrets, text)
	}
}

// FuzzParseSecrets holds that the Secrets of any text can be used, and that errors are
// short and printable.
func FuzzParseSecrets(f *testing.F) {
	for _, text := range []string{
		"kind: Secret\nmetadata: {name: a}\ndata: {x: e30=}\n---\n{\"kind\":\"Secret\"}\n", "kind: List\nitems:\n- kind: Secret\n  data: {}\n  data: {}\n", "[{\"kind\":\"Secret\"} {}]",
		"{\"kind\":\"List\",\"items\":[{\"kind\":\"Secret\",\"data\":{}},{]}", "kind: a\nmetadata:\n ---\nkind: b\n", "\xff\xfek\x00:\x00", "—\n{\n{{ x }}\n{}\n", "kind: List\nitems:\n-\n- items: [\nitems: []\n",
		"0000000000\nitems: -",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		secrets, err := ParseSecrets(data)
		if err != nil {
			assert.Less(t, len(err.Error()), 30_000)
			assert.True(t, utf8.ValidString(err.Error()))
			assert.NotContains(t, err.Error(), "\n")
		}
		for _, err := range Problems(FromSecrets(secrets, Rules{})) {
			assert.NotContains(t, err.Error(), "\n")
		}
		for _, s := range secrets {
			_ = s.Validate()
		}
	})
}
