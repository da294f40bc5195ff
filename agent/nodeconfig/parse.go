package nodeconfig

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// UserData is what user-data asks for.
type UserData struct {
	Config
	// TrustedCAs are the application/x-pem-file parts, in PEM: authorities to trust besides
	// the system's, for calls to AWS and for registries. Nil when there are none.
	TrustedCAs []byte
	// Scripts are the text/x-shellscript parts, in their order.
	Scripts []Script
	// Host is not nil when the instance hosts control planes and is no node. Of the Config, the
	// instance's environment and network count then.
	Host *ControlPlaneHost
	// Warnings name what will have no effect: kubelet drops fields that it does not know.
	Warnings []string

	documents []document
	hosts     []document
}

// DropIn is a file of NodeConfig documents that the image brings along.
type DropIn struct {
	Path string
	Data []byte
}

// Locate says for problems with the merged NodeConfig which part and line they are about:
// the last document that has the field, or else the mapping that it belongs in.
func (u UserData) Locate(problems Problems) Problems {
	for i, problem := range problems {
		for at := problem.Field; at != "" && problem.Field != "" && problem.Line == 0; {
			for _, d := range slices.Backward(u.documents) {
				if d.has(at) {
					found := d.problem(problem.Field, "%s", problem.Message)
					problems[i], problem = found, found
					break
				}
			}
			at = at[:max(0, strings.LastIndexByte(at, '.'))]
		}
	}
	return problems
}

// Parse reads user-data: a NodeConfig in YAML or JSON, or a MIME multipart of those, of
// which later ones win, with authorities and scripts among them. Drop-ins come before all of
// it and may stand for it. A ControlPlaneHost among them makes the instance no node. Gzip and
// base64 are undone. Any error is of type Problems; with one come the environment and the
// authorities as far as they can be read, so that the error can be told to whoever they name.
func Parse(userData []byte, dropIns ...DropIn) (UserData, error) {
	var parts []part
	for _, dropIn := range dropIns {
		parts = append(parts, part{name: dropIn.Path, mediaType: typeNodeConfig, body: dropIn.Data})
	}
	var problems Problems
	switch empty := len(bytes.TrimSpace(userData)) == 0; {
	case empty && len(dropIns) == 0:
		return UserData{}, Problems{{Message: "empty: a NodeConfig is needed"}}
	case !empty:
		var own []part
		own, problems = split(userData)
		parts = append(parts, own...)
	}
	var result UserData
	for _, p := range parts {
		problems = append(problems, result.add(p)...)
	}
	trees, warnings, found := readDocuments(result.documents)
	result.Warnings = append(result.Warnings, warnings...)
	problems = append(problems, found...)
	result.Host, found = readHosts(result.hosts)
	problems = append(problems, found...)
	if len(problems) > 0 {
		return readable(trees, result.TrustedCAs), problems
	}
	if len(trees) == 0 && result.Host != nil {
		return result, nil
	}
	if len(trees) == 0 && len(result.Scripts) > 0 {
		return UserData{}, Problems{{Message: "shell scripts alone name no cluster: put them and a NodeConfig into a MIME multipart, as parts of type " + typeScript + " and " + typeNodeConfig + ", or call " + bootstrapPath}}
	}
	if len(trees) == 0 {
		return UserData{}, Problems{{Message: "no part of type " + typeNodeConfig}}
	}
	merged, err := merge(trees)
	if err != nil {
		return UserData{}, Problems{{Message: err.Error()}}
	}
	result.Config, err = merged.typed()
	if err != nil {
		return UserData{}, Problems{{Message: fmt.Sprintf("merge NodeConfigs: %v", err)}}
	}
	if problems := result.Spec.Instance.LocalStorage.incomplete(); len(problems) > 0 {
		return UserData{}, result.Locate(problems)
	}
	if result.Host != nil {
		result.Warnings = append(result.Warnings, result.Spec.idleOnHost()...)
	}
	return result, nil
}

// readable returns what Parse returns beside problems.
func readable(trees []tree, trustedCAs []byte) UserData {
	result := UserData{TrustedCAs: trustedCAs}
	if merged, err := merge(trees); err == nil && len(trees) > 0 {
		if config, err := merged.typed(); err == nil {
			result.Spec.Instance.Environment = config.Spec.Instance.Environment
		}
	}
	return result
}

// add takes one part in.
func (u *UserData) add(p part) (problems Problems) {
	switch p.mediaType {
	case typeNodeConfig:
		u.documents = append(u.documents, u.cutHosts(splitDocuments(p))...)
	case typePEM:
		if err := checkCertificates(p.body); err != nil {
			problems = append(problems, p.problem("", "%v", err))
		}
		u.TrustedCAs = append(append(u.TrustedCAs, bytes.TrimSpace(p.body)...), '\n')
	case typeScript:
		script, warnings := p.script()
		if script.callsBootstrap() {
			var d document
			if d, warnings, problems = p.bootstrap(script); len(problems) == 0 {
				u.documents = append(u.documents, d)
			}
		} else {
			u.Scripts = append(u.Scripts, script)
		}
		u.Warnings = append(u.Warnings, warnings.lines()...)
	default:
		problems = append(problems, p.problem("", "content type %s is not supported; these are: %s, %s, %s", p.mediaType, typeNodeConfig, typePEM, typeScript))
	}
	return problems
}

// readDocuments reads and checks documents.
func readDocuments(documents []document) (trees []tree, warnings []string, problems Problems) {
	for _, d := range documents {
		config, t, found := d.decode()
		if t != nil {
			wrong, unheard := d.part.check(config)
			found = append(found, wrong...)
			warnings = append(warnings, d.locate(unheard).lines()...)
			trees = append(trees, t)
		}
		problems = append(problems, d.locate(found)...)
	}
	return trees, warnings, problems
}

// splitDocuments cuts YAML at its "---" lines and drops what is empty.
func splitDocuments(p part) []document {
	var documents []document
	current, number := document{part: p, first: 1}, 0
	flush := func() {
		if len(bytes.TrimSpace(current.data)) > 0 {
			documents = append(documents, current)
		}
		current = document{part: p, first: number + 1}
	}
	for line := range bytes.Lines(p.body) {
		number++
		if trimmed := bytes.TrimRight(line, " \t\r\n"); bytes.Equal(trimmed, []byte("---")) {
			flush()
			continue
		}
		current.data = append(current.data, line...)
	}
	flush()
	if len(documents) > 1 {
		for i := range documents {
			documents[i].part.name = strings.TrimPrefix(fmt.Sprintf("%s, document %d", p.name, i+1), ", ")
		}
	}
	return documents
}

// decode reads one document strictly. The tree is nil when there is nothing to go on with.
func (d document) decode() (Config, tree, Problems) {
	var config Config
	data, problems := d.strictly(&config)
	if data == nil {
		return Config{}, nil, problems
	}
	var t tree
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &t); err != nil {
		problems = append(problems, d.part.problem("", "%v", err))
	}
	return config, t, problems
}

// strictly reads the document into a struct and returns it in JSON, nil when there is nothing
// to go on with.
func (d document) strictly(into any) ([]byte, Problems) {
	data, err := yaml.YAMLToJSONStrict(d.data)
	if err != nil {
		return nil, Problems{d.yamlProblem(err)}
	}
	strict, err := kjson.UnmarshalStrict(data, into)
	if err != nil {
		field, message := typeError(err)
		return nil, Problems{d.part.problem(field, "%s", message)}
	}
	var problems Problems
	for _, err := range strict {
		problems = append(problems, d.part.problem(fieldPath(err), "unknown field"))
	}
	return data, problems
}

// yamlProblem drops what says nothing to the user, and counts lines from the part's first.
func (d document) yamlProblem(err error) Problem {
	message := strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")
	message = strings.TrimPrefix(strings.TrimPrefix(message, "yaml: "), "unmarshal errors:\n  ")
	problem := d.part.problem("", "%s", message)
	if where, what, ok := strings.Cut(message, ": "); ok {
		if line, isLine := strings.CutPrefix(where, "line "); isLine {
			if n, err := strconv.Atoi(line); err == nil {
				problem.Line, problem.Message = d.first-1+n, what
			}
		}
	}
	return problem
}

// typeError says in the user's words what the JSON decoder says in Go's.
func typeError(err error) (field, message string) {
	var mismatch *json.UnmarshalTypeError
	if !errors.As(err, &mismatch) {
		return "", err.Error()
	}
	wanted := map[string]string{
		"string": "a string", "bool": "true or false", "int32": "a whole number", "int64": "a whole number", "float64": "a number",
	}[mismatch.Type.String()]
	if wanted == "" {
		switch mismatch.Type.Kind().String() {
		case "slice":
			wanted = "a list"
		case "map", "struct":
			wanted = "a mapping"
		default:
			wanted = mismatch.Type.String()
		}
	}
	return mismatch.Field, fmt.Sprintf("want %s, not %s", wanted, mismatch.Value)
}

// fieldPath returns the path that a strict decoding error is about.
func fieldPath(err error) string {
	var field kjson.FieldError
	if errors.As(err, &field) {
		return field.FieldPath()
	}
	return err.Error()
}

// checkCertificates refuses anything but PEM certificates, one or more.
func checkCertificates(data []byte) error {
	count := 0
	for rest := bytes.TrimSpace(data); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return errors.New("not a PEM certificate")
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("PEM block %d is a %s, not a CERTIFICATE", count+1, block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("PEM block %d is no certificate: %w", count+1, err)
		}
		count++
	}
	if count == 0 {
		return errors.New("no PEM certificate in it")
	}
	return nil
}
