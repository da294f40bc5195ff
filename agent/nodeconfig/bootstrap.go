package nodeconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// bootstrapPath is the script by which nodes of Amazon Linux 2 joined. User-data called it.
const bootstrapPath = "/etc/eks/bootstrap.sh"

// callsBootstrap reports whether a script does so anywhere but in a comment.
func (s Script) callsBootstrap() bool {
	for line := range strings.Lines(string(s.Body)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && strings.Contains(line, bootstrapPath) {
			return true
		}
	}
	return false
}

// bootstrap makes a NodeConfig of a script that calls bootstrap.sh and does nothing else
// but set variables and shell options. What else it does cannot be told from here to be
// harmless to leave out, so it is a Problem.
func (p part) bootstrap(script Script) (d document, warnings, problems Problems) {
	at := func(line int, format string, args ...any) Problem {
		problem := p.problem("", format, args...)
		problem.Line = line
		return problem
	}
	commands, line, err := parseShell(string(script.Body))
	if err != nil {
		return d, nil, Problems{at(line, "a script that calls %s is understood if it does nothing else: %v", bootstrapPath, err)}
	}
	var call *shellCommand
	for i, command := range commands {
		switch {
		case command.words[0] == bootstrapPath && call == nil:
			call = &commands[i]
		case command.words[0] == bootstrapPath:
			problems = append(problems, at(command.line, "%s is called a second time", bootstrapPath))
		case command.words[0] != "set":
			problems = append(problems, at(command.line, "a script that calls %s is understood if it does nothing else: move %q into a %s part of its own", bootstrapPath, command.words[0], typeScript))
		}
	}
	if len(problems) > 0 {
		return d, nil, problems
	}
	if call == nil {
		return d, nil, Problems{at(1, "%s is named but not called", bootstrapPath)}
	}
	config, unheard, wrong := bootstrapConfig(call.words[1:])
	for _, message := range unheard {
		warnings = append(warnings, at(call.line, "%s", message))
	}
	for _, message := range wrong {
		problems = append(problems, at(call.line, "%s", message))
	}
	// On one line, which is that of the call: where its mistakes are found.
	data, err := json.Marshal(config)
	if err != nil {
		problems = append(problems, at(call.line, "%v", err))
	}
	return document{part: p, first: call.line, data: data}, warnings, problems
}

// bootstrapConfig returns the NodeConfig that means what the arguments of bootstrap.sh
// meant, by the script's last release for Amazon Linux 2.
func bootstrapConfig(args []string) (config tree, warnings, problems []string) {
	cluster, kubeletConfig := tree{}, tree{}
	var flags []string
	allPods := true
	for len(args) > 0 {
		option := args[0]
		if args = args[1:]; !strings.HasPrefix(option, "-") {
			if cluster["name"] != nil {
				problems = append(problems, fmt.Sprintf("%s takes one cluster name; %q is another", bootstrapPath, option))
				continue
			}
			cluster["name"] = option
			continue
		}
		if len(args) == 0 {
			problems = append(problems, option+" has no value")
			break
		}
		value := args[0]
		args = args[1:]
		switch option {
		case "--apiserver-endpoint":
			cluster["apiServerEndpoint"] = value
		case "--b64-cluster-ca":
			cluster["certificateAuthority"] = value
		case "--service-ipv6-cidr":
			cluster["cidr"] = value
		case "--dns-cluster-ip":
			address, err := netip.ParseAddr(value)
			if err != nil || !address.Is4() {
				problems = append(problems, fmt.Sprintf("--dns-cluster-ip: %q is not an IPv4 address", value))
				continue
			}
			// Nothing but the cluster's DNS is taken from it here; EKS has no service
			// network smaller than this.
			network, _ := address.Prefix(24)
			if cluster["cidr"] == nil {
				cluster["cidr"] = network.String()
			}
			if address.As4()[3] != 10 {
				kubeletConfig["clusterDNS"] = []any{value}
			}
		case "--kubelet-extra-args":
			var problem string
			if flags, problem = kubeletFlags(value); problem != "" {
				problems = append(problems, "--kubelet-extra-args: "+problem)
			}
		case "--use-max-pods":
			allPods = value == "true"
		case "--container-runtime":
			if value != "containerd" {
				problems = append(problems, fmt.Sprintf("--container-runtime: there is containerd only, not %q", value))
			}
		case "--ip-family":
			if family := strings.ToLower(value); family != "ipv4" && family != "ipv6" {
				problems = append(problems, fmt.Sprintf("--ip-family: %q is neither ipv4 nor ipv6", value))
			}
		case "--aws-api-retry-attempts", "--pause-container-account", "--pause-container-version",
			"--enable-docker-bridge", "--docker-config-json", "--mount-bpf-fs":
			warnings = append(warnings, option+" has no effect here")
		default:
			problems = append(problems, option+" of "+bootstrapPath+" is unknown or "+notYet)
		}
	}
	if cluster["name"] == nil {
		problems = append(problems, bootstrapPath+" is called without a cluster name")
	}
	if !allPods && !slices.ContainsFunc(flags, func(flag string) bool { return strings.HasPrefix(flag, "--max-pods") }) {
		kubeletConfig["maxPods"] = 110 // kubelet's own default
	}
	kubelet := tree{}
	if len(kubeletConfig) > 0 {
		kubelet["config"] = kubeletConfig
	}
	if len(flags) > 0 {
		kubelet["flags"] = flags
	}
	spec := tree{"cluster": cluster}
	if len(kubelet) > 0 {
		spec["kubelet"] = kubelet
	}
	return tree{"apiVersion": APIVersion, "kind": Kind, "spec": spec}, warnings, problems
}

// kubeletFlags takes kubelet's flags apart. A value may be a word of its own.
func kubeletFlags(args string) (flags []string, problem string) {
	if strings.ContainsAny(args, `'"\`) {
		return nil, "quotes within it are not understood"
	}
	for _, word := range strings.Fields(args) {
		last := len(flags) - 1
		if strings.HasPrefix(word, "-") || last < 0 || strings.Contains(flags[last], "=") {
			flags = append(flags, word)
			continue
		}
		flags[last] += "=" + word
	}
	return flags, ""
}

// shellCommand is one command of a script.
type shellCommand struct {
	line  int // that it begins on
	words []string
}

// shell reads the little of the shell's language that is data: words, quotes, comments,
// continued lines, and variables that were set before.
type shell struct {
	text      string
	at, line  int
	variables map[string]string
	commands  []shellCommand

	words  []string
	began  int // the line of the first word
	word   strings.Builder
	inWord bool
}

// parseShell takes a script apart. With an error comes the line that it is about.
func parseShell(text string) ([]shellCommand, int, error) {
	s := &shell{text: text, line: 1, variables: map[string]string{}}
	for s.at < len(s.text) {
		if err := s.next(); err != nil {
			return nil, s.line, err
		}
	}
	s.endCommand()
	return s.commands, 0, nil
}

// next reads one character, or what belongs together.
func (s *shell) next() error {
	c := s.text[s.at]
	s.at++
	switch {
	case c == '\n' || c == ';':
		s.endCommand()
		if c == '\n' {
			s.line++
		}
	case c == ' ' || c == '\t' || c == '\r':
		s.endWord()
	case c == '#' && !s.inWord:
		if end := strings.IndexByte(s.text[s.at:], '\n'); end >= 0 {
			s.at += end
		} else {
			s.at = len(s.text)
		}
	case c == '\\' && s.at == len(s.text):
	case c == '\\' && s.text[s.at] == '\n':
		s.at++
		s.line++
	case c == '\\':
		s.put(s.text[s.at : s.at+1])
		s.at++
	case c == '\'':
		end := strings.IndexByte(s.text[s.at:], '\'')
		if end < 0 {
			return errors.New("a ' without its end")
		}
		s.put(s.text[s.at : s.at+end])
		s.line += strings.Count(s.text[s.at:s.at+end], "\n")
		s.at += end + 1
	case c == '"':
		return s.quoted()
	case c == '$':
		value, err := s.variable()
		if err != nil {
			return err
		}
		if strings.ContainsAny(value, " \t\n*?[") {
			return errors.New("a variable with spaces or wildcards in it stands outside of quotes")
		}
		if value != "" {
			s.put(value)
		}
	case strings.IndexByte("&|<>()*?[{`", c) >= 0:
		return fmt.Errorf("%q is not understood", c)
	default:
		s.put(s.text[s.at-1 : s.at])
	}
	return nil
}

// quoted reads up to the closing double quote.
func (s *shell) quoted() error {
	s.put("")
	for s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch {
		case c == '"':
			return nil
		case c == '`':
			return fmt.Errorf("%q is not understood", c)
		case c == '$':
			value, err := s.variable()
			if err != nil {
				return err
			}
			s.put(value)
		case c == '\\' && s.at < len(s.text) && strings.IndexByte("$`\"\\\n", s.text[s.at]) >= 0:
			if s.text[s.at] == '\n' {
				s.line++
			} else {
				s.put(s.text[s.at : s.at+1])
			}
			s.at++
		default:
			if c == '\n' {
				s.line++
			}
			s.put(s.text[s.at-1 : s.at])
		}
	}
	return errors.New("a \" without its end")
}

// variablePattern is $NAME or ${NAME} without its $.
const variablePattern = `^(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))`

// variable reads the name behind a $ and returns its value.
func (s *shell) variable() (string, error) {
	found := regexp.MustCompile(variablePattern).FindStringSubmatch(s.text[s.at:])
	if found == nil {
		return "", errors.New("\"$\" is not understood but before the name of a variable")
	}
	s.at += len(found[0])
	name := found[1] + found[2]
	value, ok := s.variables[name]
	if !ok {
		return "", fmt.Errorf("the variable %s is not set in the script", name)
	}
	// Doubling variables must not fill memory.
	if len(value)+s.word.Len() > maxUserData {
		return "", fmt.Errorf("the variable %s is too long", name)
	}
	return value, nil
}

func (s *shell) put(text string) {
	if !s.inWord && len(s.words) == 0 {
		s.began = s.line
	}
	s.inWord = true
	s.word.WriteString(text)
}

func (s *shell) endWord() {
	if s.inWord {
		s.words = append(s.words, s.word.String())
	}
	s.word.Reset()
	s.inWord = false
}

// endCommand keeps a command, or sets the variable that it sets.
func (s *shell) endCommand() {
	s.endWord()
	words := s.words
	s.words = nil
	if len(words) == 0 {
		return
	}
	if name, value, ok := strings.Cut(words[0], "="); ok && len(words) == 1 && matches(variableName, name) {
		s.variables[name] = value
		return
	}
	s.commands = append(s.commands, shellCommand{line: s.began, words: words})
}
