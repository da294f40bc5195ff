package ssm

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// maxValue is what a parameter of the standard tier holds, in bytes.
const maxValue = 4 << 10

// secret is the type of a parameter that is encrypted. The lab has no KMS: it keeps the value
// as it keeps others, in a file that only root reads, and shows it to whoever asks for it
// decrypted.
const secret = "SecureString"

// maxLevels is how deep a hierarchy of names may be.
const maxLevels = 15

var (
	parameterName = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$|^(/[a-zA-Z0-9_.-]+)+$`)
	reservedName  = regexp.MustCompile(`^/?(?i:aws|ssm)`)
)

func refuse(code, format string, args ...any) error {
	return &wire.Error{Status: http.StatusBadRequest, Code: code, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error { return refuse("ValidationException", format, args...) }

type tag struct{ Key, Value string }

type putRequest struct {
	Name, Value, Type, DataType, Description, Tier string
	KeyID                                          string `json:"KeyId"` // of KMS, for a SecureString
	Overwrite                                      bool
	Tags                                           []tag
}

type putResponse struct {
	Version int
	Tier    string
}

func (s Service) putParameter(region string, in putRequest) (any, error) {
	p, err := s.parameter(region, in)
	if err != nil {
		return nil, err
	}
	version, err := s.store(p, in.Overwrite)
	if err != nil {
		return nil, err
	}
	return putResponse{Version: version, Tier: "Standard"}, nil
}

// parameter makes one of a request.
func (s Service) parameter(region string, in putRequest) (Parameter, error) {
	p := Parameter{Region: region, Name: in.Name, Type: in.Type, DataType: in.DataType, Description: in.Description, Value: in.Value}
	if p.DataType == "" {
		p.DataType = "text"
	}
	_, exists := s.Parameters.Get(region, in.Name)
	switch {
	case !parameterName.MatchString(in.Name):
		return p, invalid("Parameter name must be a fully qualified name and hold letters, digits and the symbols .-_/ only")
	case reservedName.MatchString(in.Name):
		return p, invalid("Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive).")
	case strings.Count(in.Name, "/") > maxLevels:
		return p, refuse("HierarchyLevelLimitExceededException", "A hierarchy has at most %d levels.", maxLevels)
	case in.Value == "" || len(in.Value) > maxValue:
		return p, invalid("Standard tier parameters support a maximum parameter value of %d characters, and no empty one.", maxValue)
	case in.Tier != "" && in.Tier != "Standard":
		return p, invalid("The lab has parameters of the tier Standard only.")
	case in.Type != "String" && in.Type != "StringList" && in.Type != secret && (in.Type != "" || !exists):
		return p, invalid("A parameter type is required when you create a parameter.")
	case in.KeyID != "" && in.Type != secret:
		return p, invalid("KeyId is required for SecureString type parameter only.")
	case p.DataType != "text" && (p.DataType != imageType || in.Type == "StringList" || in.Type == secret):
		return p, invalid("The following data type is not supported: %s (Data type names are all lowercase.)", p.DataType)
	case in.Overwrite && len(in.Tags) > 0:
		return p, invalid("Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please remove overwrite flag. " +
			"To update tags for an existing parameter, please use AddTagsToResource or RemoveTagsFromResource.")
	}
	var err error
	p.Tags, err = tagMap(in.Tags)
	return p, err
}

// store puts a parameter, in the place of one that is there where overwrite says so.
func (s Service) store(p Parameter, overwrite bool) (version int, err error) {
	version, err = s.Parameters.put(p, overwrite)
	switch {
	case errors.Is(err, errExists):
		return 0, refuse("ParameterAlreadyExists", "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.")
	case errors.Is(err, errType):
		return 0, invalid("The type of an existing parameter cannot be changed.")
	}
	return version, err
}

func tagMap(list []tag) (map[string]string, error) {
	tags := map[string]string{}
	for _, t := range list {
		if t.Key == "" || len([]rune(t.Key)) > 128 || len([]rune(t.Value)) > 256 || strings.HasPrefix(strings.ToLower(t.Key), "aws:") {
			return nil, invalid("The tag key '%s' is empty, reserved or too long, or its value is too long.", t.Key)
		}
		tags[t.Key] = t.Value
	}
	if len(tags) > 50 {
		return nil, refuse("TooManyTagsError", "A parameter has at most 50 tags.")
	}
	return tags, nil
}

// described is a parameter as SSM sends it.
type described struct {
	ARN, Name, Type, Value, DataType string
	Selector                         string `json:",omitempty"`
	Version                          int
	LastModifiedDate                 float64
}

// sealed stands for a secret's ciphertext.
func sealed(p Parameter) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", p.Region, p.Name, p.Version))
	return "AQICAH" + base64.StdEncoding.EncodeToString(sum[:])
}

// get finds a parameter by its name, or by its name and version.
func (s Service) get(region, name string, decrypt bool) (described, error) {
	name, version, selected := strings.Cut(name, ":")
	p, ok := s.Parameters.Get(region, name)
	if !ok {
		return described{}, errNotFound
	}
	v := described{
		ARN:  fmt.Sprintf("arn:%s:ssm:%s:%s:parameter/%s", s.Plan.Partition, region, s.Plan.Account, strings.TrimPrefix(p.Name, "/")),
		Name: p.Name, Type: p.Type, Value: p.Value, DataType: p.DataType, Version: p.Version,
		LastModifiedDate: float64(p.Modified.UnixMilli()) / 1000,
	}
	if p.Type == secret && !decrypt {
		v.Value = sealed(p)
	}
	if selected {
		v.Selector = ":" + version
		if version != strconv.Itoa(p.Version) {
			return v, refuse("ParameterVersionNotFound", "Systems Manager could not find version %s of %s. The lab keeps the newest version only.", version, name)
		}
	}
	return v, nil
}

type getRequest struct {
	Name           string
	WithDecryption bool
}

func (s Service) getParameter(region string, in getRequest) (any, error) {
	p, err := s.get(region, in.Name, in.WithDecryption)
	if errors.Is(err, errNotFound) {
		return nil, notFound(in.Name)
	}
	return map[string]described{"Parameter": p}, err
}

func notFound(name string) error { return refuse("ParameterNotFound", "Parameter %s not found.", name) }

type getManyRequest struct {
	Names          []string
	WithDecryption bool
}

type getManyResponse struct {
	Parameters        []described
	InvalidParameters []string
}

func (s Service) getParameters(region string, in getManyRequest) (any, error) {
	if len(in.Names) < 1 || len(in.Names) > 10 {
		return nil, invalid("Names holds between 1 and 10 names.")
	}
	out := getManyResponse{Parameters: []described{}, InvalidParameters: []string{}}
	for _, name := range in.Names {
		if p, err := s.get(region, name, in.WithDecryption); err != nil {
			out.InvalidParameters = append(out.InvalidParameters, name)
		} else {
			out.Parameters = append(out.Parameters, p)
		}
	}
	return out, nil
}

type nameRequest struct{ Name string }

func (s Service) deleteParameter(region string, in nameRequest) (any, error) {
	err := s.Parameters.remove(region, in.Name)
	if errors.Is(err, errNotFound) {
		return nil, notFound(in.Name)
	}
	return struct{}{}, err
}

type tagsRequest struct {
	ResourceType string
	ResourceID   string `json:"ResourceId"`
	Tags         []tag
	TagKeys      []string
}

// check finds the parameter that a request is about.
func (s Service) check(region string, in tagsRequest) (Parameter, error) {
	if in.ResourceType != "Parameter" {
		return Parameter{}, refuse("InvalidResourceType", "The lab has parameters only.")
	}
	p, ok := s.Parameters.Get(region, in.ResourceID)
	if !ok {
		return p, refuse("InvalidResourceId", "Parameter %s not found.", in.ResourceID)
	}
	return p, nil
}

func (s Service) addTags(region string, in tagsRequest) (any, error) {
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	if _, err := s.check(region, in); err != nil {
		return nil, err
	}
	return struct{}{}, s.Parameters.tag(region, in.ResourceID, tags, nil)
}

func (s Service) removeTags(region string, in tagsRequest) (any, error) {
	if _, err := s.check(region, in); err != nil {
		return nil, err
	}
	return struct{}{}, s.Parameters.tag(region, in.ResourceID, nil, in.TagKeys)
}

func (s Service) listTags(region string, in tagsRequest) (any, error) {
	p, err := s.check(region, in)
	list := []tag{}
	shown := visible(p.Tags)
	for _, key := range slices.Sorted(maps.Keys(shown)) {
		list = append(list, tag{key, shown[key]})
	}
	return map[string][]tag{"TagList": list}, err
}
