package ec2

import (
	"encoding/xml"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// EC2's limits on launch templates (API reference, CreateLaunchTemplate).
const (
	maxVersions    = 10000
	maxDescription = 255
)

var (
	templateID   = regexp.MustCompile(`^lt-[0-9a-f]{8,17}$`)
	templateName = regexp.MustCompile(`^[a-zA-Z0-9().\-/_]{3,128}$`)
)

// template is a launch template. Its numbers are never given twice.
type template struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Created  time.Time         `json:"created"`
	Creator  string            `json:"creator"`
	Default  int               `json:"default"`
	Last     int               `json:"last"` // number that was given
	Tags     map[string]string `json:"tags,omitempty"`
	Versions []templateVersion `json:"versions"` // in the order of their numbers
	Request  tokenOf           `json:"request,omitzero"`
}

type templateVersion struct {
	Number      int          `json:"number"`
	Description string       `json:"description,omitempty"`
	Created     time.Time    `json:"created"`
	Creator     string       `json:"creator"`
	Data        templateData `json:"data"`
	Request     tokenOf      `json:"request,omitzero"`
}

// tokenOf is the client token of the request that made something, and what another request
// with it must agree in.
type tokenOf struct {
	Token  string `json:"token,omitempty"`
	Digest string `json:"digest,omitempty"`
}

func (p *params) token() tokenOf { return tokenOf{p.text("ClientToken"), digest(p)} }

// again tells whether the request repeats the one that made something.
func (t tokenOf) again(made tokenOf) (bool, error) {
	if t.Token == "" || t.Token != made.Token {
		return false, nil
	}
	if t.Digest != made.Digest {
		return true, tokenReused()
	}
	return true, nil
}

type templateItem struct {
	ID      string `xml:"launchTemplateId"`
	Name    string `xml:"launchTemplateName"`
	Created string `xml:"createTime"`
	Creator string `xml:"createdBy"`
	Default int    `xml:"defaultVersionNumber"`
	Latest  int    `xml:"latestVersionNumber"`
	Tags    []tag  `xml:"tagSet>item"`
}

func (t template) item() templateItem {
	return templateItem{
		ID: t.ID, Name: t.Name, Created: t.Created.Format(timeFormat), Creator: t.Creator, Default: t.Default, Latest: t.latest(), Tags: tagItems(t.Tags),
	}
}

type templateResponse struct {
	XMLName   xml.Name
	RequestID string       `xml:"requestId"`
	Template  templateItem `xml:"launchTemplate"`
}

func templateAnswer(p *params, action string, t template, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return templateResponse{XMLName: doneWith(p, action).XMLName, RequestID: p.id, Template: t.item()}, nil
}

func (s Service) createLaunchTemplate(p *params) (any, error) {
	made := template{ID: newID("lt-0"), Name: p.required("LaunchTemplateName"), Created: s.now(), Creator: p.caller, Default: 1, Last: 1, Request: p.token()}
	if !templateName.MatchString(made.Name) && made.Name != "" {
		p.fail(invalid("InvalidLaunchTemplateName.MalformedException", "Launch template name '%s' must be between 3 and 128 characters, and may contain letters, numbers, and the following characters: - ( ) . / _.", made.Name))
	}
	made.Tags = p.tags("launch-template")["launch-template"]
	made.Versions = []templateVersion{{Number: 1, Description: p.versionDescription(), Created: made.Created, Creator: p.caller, Data: p.templateData()}}
	if err := p.done(); err != nil {
		return nil, err
	}
	err := s.change(func(c *contents) error {
		for _, t := range c.Templates {
			again, err := made.Request.again(t.Request)
			switch {
			case err != nil:
				return err
			case again:
				made = t.copy()
				return nil
			case t.Name == made.Name:
				return invalid("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
			}
		}
		kept := made.copy()
		c.Templates = append(c.Templates, &kept)
		return nil
	})
	return templateAnswer(p, "CreateLaunchTemplate", made, err)
}

func (p *params) versionDescription() string {
	text := p.text("VersionDescription")
	if len(text) > maxDescription {
		p.fail(invalid("InvalidParameterValue", "The version description exceeds the maximum length of %d characters", maxDescription))
	}
	return text
}

// latest is the highest number of a version. The default one cannot be deleted, so there is
// one.
func (t *template) latest() int { return t.Versions[len(t.Versions)-1].Number }

// copy is a snapshot of the template.
func (t *template) copy() template {
	c := *t
	c.Tags, c.Versions = maps.Clone(t.Tags), slices.Clone(t.Versions)
	return c
}

// templateName reads which launch template a request is about: by its ID or by its name.
func (p *params) templateName(prefix string) string {
	id, name := p.text(prefix+"LaunchTemplateId"), p.text(prefix+"LaunchTemplateName")
	switch {
	case id == "" && name == "":
		p.fail(invalid("MissingParameter", "Either a launch template ID or a launch template name must be specified in the request"))
	case id != "" && name != "":
		p.fail(invalid("InvalidParameterCombination", "The launch template ID and the launch template name cannot both be specified in the request"))
	case id != "" && !templateID.MatchString(id):
		p.fail(invalid("InvalidLaunchTemplateId.Malformed", `Invalid id: "%s" (expecting "lt-...")`, id))
	}
	return id + name
}

func (c *contents) template(idOrName string) (*template, error) {
	for _, t := range c.Templates {
		if t.ID == idOrName || t.Name == idOrName {
			return t, nil
		}
	}
	if templateID.MatchString(idOrName) {
		return nil, invalid("InvalidLaunchTemplateId.NotFound", "The specified launch template, with template ID %s, does not exist.", idOrName)
	}
	return nil, invalid("InvalidLaunchTemplateName.NotFoundException", "The specified launch template, with template name %s, does not exist.", idOrName)
}

// version finds one by its number, $Latest, $Default, or empty for the default.
func (t *template) version(wanted string) (*templateVersion, error) {
	number, err := strconv.Atoi(wanted)
	switch {
	case wanted == "$Latest":
		number = t.latest()
	case wanted == "$Default" || wanted == "":
		number = t.Default
	case err != nil || number < 1:
		return nil, invalid("InvalidLaunchTemplateVersion.Malformed", "The launch template version '%s' is not a number, $Latest or $Default", wanted)
	}
	for n := range t.Versions {
		if t.Versions[n].Number == number {
			return &t.Versions[n], nil
		}
	}
	return nil, invalid("InvalidLaunchTemplateId.VersionNotFound", "Could not find the specified version %s for the launch template with ID %s.", wanted, t.ID)
}

// templateVersion finds a version of a launch template.
func (s Service) templateVersion(idOrName, wanted string) (found template, version templateVersion, err error) {
	err = s.change(func(c *contents) error {
		t, err := c.template(idOrName)
		if err != nil {
			return err
		}
		v, err := t.version(wanted)
		if err != nil {
			return err
		}
		found, version = t.copy(), *v
		return nil
	})
	return found, version, err
}

type versionItem struct {
	ID          string       `xml:"launchTemplateId"`
	Name        string       `xml:"launchTemplateName"`
	Number      int          `xml:"versionNumber"`
	Description string       `xml:"versionDescription,omitempty"`
	Created     string       `xml:"createTime"`
	Creator     string       `xml:"createdBy"`
	Default     bool         `xml:"defaultVersion"`
	Data        templateData `xml:"launchTemplateData"`
}

func (t template) versionItem(v templateVersion) versionItem {
	return versionItem{
		ID: t.ID, Name: t.Name, Number: v.Number, Description: v.Description, Created: v.Created.Format(timeFormat),
		Creator: v.Creator, Default: v.Number == t.Default, Data: v.Data,
	}
}

type versionResponse struct {
	XMLName   xml.Name    `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ CreateLaunchTemplateVersionResponse"`
	RequestID string      `xml:"requestId"`
	Version   versionItem `xml:"launchTemplateVersion"`
}

func (s Service) createLaunchTemplateVersion(p *params) (any, error) {
	idOrName, source := p.templateName(""), p.text("SourceVersion")
	made := templateVersion{Description: p.versionDescription(), Created: s.now(), Creator: p.caller, Data: p.templateData(), Request: p.token()}
	if err := p.done(); err != nil {
		return nil, err
	}
	response := versionResponse{RequestID: p.id}
	err := s.change(func(c *contents) error {
		t, err := c.template(idOrName)
		if err != nil {
			return err
		}
		for _, v := range t.Versions {
			if again, err := made.Request.again(v.Request); again || err != nil {
				response.Version = t.versionItem(v)
				return err
			}
		}
		if len(t.Versions) == maxVersions {
			return invalid("VersionLimitExceeded", "The launch template %s has reached the maximum of %d versions", t.ID, maxVersions)
		}
		if source != "" {
			from, err := t.version(source)
			if err != nil {
				return err
			}
			made.Data = from.Data.replacedBy(made.Data)
		}
		t.Last++
		made.Number = t.Last
		t.Versions = append(t.Versions, made)
		response.Version = t.versionItem(made)
		return nil
	})
	return response, err
}

func (s Service) modifyLaunchTemplate(p *params) (any, error) {
	// A version's number is what the request asks for, whatever the token says.
	idOrName, wanted := p.templateName(""), p.required("SetDefaultVersion")
	p.text("ClientToken")
	if err := p.done(); err != nil {
		return nil, err
	}
	var changed template
	err := s.change(func(c *contents) error {
		t, err := c.template(idOrName)
		if err != nil {
			return err
		}
		v, err := t.version(wanted)
		if err != nil {
			return err
		}
		t.Default = v.Number
		changed = t.copy()
		return nil
	})
	return templateAnswer(p, "ModifyLaunchTemplate", changed, err)
}

func (s Service) deleteLaunchTemplate(p *params) (any, error) {
	idOrName := p.templateName("")
	if err := p.done(); err != nil {
		return nil, err
	}
	var gone template
	err := s.change(func(c *contents) error {
		t, err := c.template(idOrName)
		if err != nil {
			return err
		}
		gone = t.copy()
		c.Templates = slices.DeleteFunc(c.Templates, func(other *template) bool { return other == t })
		return nil
	})
	return templateAnswer(p, "DeleteLaunchTemplate", gone, err)
}

type deletedVersion struct {
	ID     string         `xml:"launchTemplateId"`
	Name   string         `xml:"launchTemplateName"`
	Number int            `xml:"versionNumber"`
	Error  *responseError `xml:"responseError"`
}

type responseError struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

type deletedVersions struct {
	XMLName   xml.Name         `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ DeleteLaunchTemplateVersionsResponse"`
	RequestID string           `xml:"requestId"`
	Deleted   []deletedVersion `xml:"successfullyDeletedLaunchTemplateVersionSet>item"`
	Kept      []deletedVersion `xml:"unsuccessfullyDeletedLaunchTemplateVersionSet>item"`
}

func (s Service) deleteLaunchTemplateVersions(p *params) (any, error) {
	idOrName, wanted := p.templateName(""), p.list("LaunchTemplateVersion")
	if len(wanted) == 0 {
		p.fail(invalid("MissingParameter", "The request must contain the parameter LaunchTemplateVersion"))
	}
	var numbers []int
	for _, text := range wanted {
		n, err := strconv.Atoi(text)
		if err != nil {
			p.fail(invalid("InvalidLaunchTemplateVersion.Malformed", "The launch template version '%s' is not a number", text))
		}
		numbers = append(numbers, n)
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	response := deletedVersions{RequestID: p.id}
	err := s.change(func(c *contents) error {
		t, err := c.template(idOrName)
		if err != nil {
			return err
		}
		for _, n := range numbers {
			item := deletedVersion{ID: t.ID, Name: t.Name, Number: n}
			_, err := t.version(strconv.Itoa(n))
			switch {
			case n == t.Default:
				item.Error = &responseError{"unexpectedError", "The default version of a launch template cannot be deleted."}
			case err != nil:
				item.Error = &responseError{"launchTemplateVersionDoesNotExist", err.Error()}
			}
			if item.Error != nil {
				response.Kept = append(response.Kept, item)
				continue
			}
			t.Versions = slices.DeleteFunc(t.Versions, func(v templateVersion) bool { return v.Number == n })
			response.Deleted = append(response.Deleted, item)
		}
		return nil
	})
	return response, err
}
