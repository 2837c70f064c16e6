//! A conversation with a model: its turns, and how the next one is made.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use sterna::chat::{Chat, ChatPrompt, Conversation, Delta, Message};
use sterna::generate::{Finish, GenerateOptions, Prompt, Session, StepBudget};

use crate::args::Args;
use crate::commands::{Command, HELP};
use crate::interrupts::Interrupts;
use crate::output::Output;
use crate::show::Show;
use crate::{terminal, text};

/// A conversation.
pub struct Talk<'a> {
    args: &'a Args,
    chat: Chat,
    session: Session,
    interrupts: Interrupts,
    system: Option<String>,
    messages: Vec<Message>, // without the system's
    /// The prompt of the last answer, and what was made after it: what the next prompt begins with.
    last: Option<(ChatPrompt, Vec<u32>)>,
    seed: u64,
}

/// How an answer ended.
#[derive(Clone, Copy, PartialEq)]
pub enum Ended {
    Whole,
    Interrupted,
}

impl Ended {
    pub fn was_interrupted(self) -> bool {
        self == Self::Interrupted
    }

    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Whole => ExitCode::SUCCESS,
            Self::Interrupted => terminal::INTERRUPTED.into(),
        }
    }
}

impl<'a> Talk<'a> {
    pub fn new(args: &'a Args, chat: Chat, session: Session, interrupts: Interrupts) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = args.sampling.seed().unwrap_or(since_1970.as_nanos() as u64);
        let system = args.system.clone();
        Self { args, chat, session, interrupts, system, messages: Vec::new(), last: None, seed }
    }

    /// Says something, and shows the answer. Where that fails, it was not said.
    pub fn say(&mut self, text: String) -> anyhow::Result<Ended> {
        self.messages.push(Message::new("user", text));
        self.answer().inspect_err(|_| drop(self.messages.pop()))
    }

    /// Forgets a Ctrl-C that came after an answer: the next one means what is said next.
    pub fn forget_interrupt(&self) {
        self.interrupts.clear();
    }

    pub fn obey(&mut self, command: Command) -> anyhow::Result<Ended> {
        match command {
            Command::Help => terminal::say(HELP),
            Command::Clear => self.messages.clear(),
            Command::System(None) => {
                terminal::say(self.system.as_deref().unwrap_or("the model is told nothing before the conversation"))
            }
            Command::System(Some(text)) => self.system = Some(text).filter(|text| !text.is_empty()),
            Command::Save(path) => self.save(&path)?,
            Command::Load(path) => self.load(&path)?,
            Command::Regenerate => return self.regenerate(),
            Command::Wrong(why) => bail!(why),
        }
        Ok(Ended::Whole)
    }

    /// Whether the template did not come to an end, so that a thread of this program never does either.
    pub fn is_stuck(&self) -> bool {
        self.chat.template().is_stuck()
    }

    fn regenerate(&mut self) -> anyhow::Result<Ended> {
        let is_answer = |message: &Message| message.role == "assistant";
        ensure!(self.messages.last().is_some_and(is_answer), "there is no answer that could be made again");
        let before = self.messages.pop();
        self.answer().inspect_err(|_| self.messages.extend(before))
    }

    /// Has the next turn made, and shows it as it comes.
    fn answer(&mut self) -> anyhow::Result<Ended> {
        let prompt = self.prompt()?;
        let talk = self.conversation();
        let (options, id) = self.join(&prompt)?;
        let (start, mut show) = (Instant::now(), Show::new(self.args.hide_thinking));
        let mut answer = self.chat.answer(&prompt, &talk);
        let (mut turn, mut made) = (Message::new("assistant", ""), Vec::new());
        let (mut first, mut ended) = (None, Ended::Whole);
        let (finish, usage) = loop {
            let pieces = self.session.step(&StepBudget::whole_chunks()).to_vec();
            if self.interrupts.is_set() || show.is_closed() {
                ended = Ended::Interrupted;
                self.interrupts.clear();
                self.session.leave(id);
            }
            let mut end = None;
            for piece in pieces {
                first.get_or_insert_with(|| start.elapsed());
                made.extend(piece.id);
                for delta in self.chat.read(&mut answer, &piece) {
                    show.delta(&delta)?;
                    match delta {
                        Delta::Reasoning(text) => turn.reasoning.get_or_insert_default().push_str(&text),
                        Delta::Content(text) => turn.content.push_str(&text),
                        _ => {}
                    }
                }
                if let Some(error) = piece.error {
                    show.end()?;
                    return Err(error.into());
                }
                end = piece.finish.map(|finish| (finish, piece.usage));
            }
            if let Some(end) = end {
                break end;
            }
        };
        show.end()?;
        self.messages.push(turn);
        self.last = Some((prompt, made));
        match finish {
            Finish::ContextFull => terminal::say(
                "(the context is full; /clear begins anew, --context makes more room, --forget drops old turns)",
            ),
            Finish::MaxTokens if self.args.max_tokens.is_some() => {
                terminal::say(&format!("(stopped after {} tokens, as --max-tokens asks)", options.max_tokens))
            }
            _ => {}
        }
        if self.args.verbose {
            let first = first.unwrap_or_default();
            let speed = usage.made.saturating_sub(1) as f64 / (start.elapsed() - first).as_secs_f64().max(1e-9);
            let (new, first) = (usage.prompt - usage.cached, terminal::short(first));
            terminal::say(&format!(
                "[{} tokens found in the cache, {new} new; first token after {first}; {} made, {speed:.1} tokens/s; {} of {} drafted \
                 tokens taken]",
                usage.cached, usage.made, usage.accepted, usage.drafted
            ));
        }
        Ok(ended)
    }

    /// The prompt of the next turn, with room for an answer.
    fn prompt(&mut self) -> anyhow::Result<ChatPrompt> {
        loop {
            let talk = self.conversation();
            let prompt = match &self.last {
                Some((before, made)) => self.chat.prompt_after(&talk, before, made)?,
                None => self.chat.prompt(&talk)?,
            };
            let (tokens, positions) = (prompt.ids.len(), self.session.positions());
            // As much as an answer often takes; one that is longer ends where the context does.
            let room = self.args.max_tokens.unwrap_or(usize::MAX).min(positions / 4);
            if tokens + room <= positions {
                return Ok(prompt);
            }
            if self.args.forget && self.messages.len() > 2 {
                self.messages.drain(..2);
                terminal::say("(the oldest turns are forgotten)");
                continue;
            }
            if tokens <= positions {
                return Ok(prompt);
            }
            bail!(
                "the conversation is {tokens} tokens, and there is room for {positions}: /clear begins anew, --context makes more room \
                 (the model takes up to {}), --forget drops old turns",
                self.session.model().config().context
            );
        }
    }

    fn join(&mut self, prompt: &ChatPrompt) -> anyhow::Result<(GenerateOptions, usize)> {
        let model = self.session.model();
        let sampling = self.args.sampling.sampling(model, self.seed);
        self.seed = self.seed.wrapping_add(1);
        let max_tokens = self.args.max_tokens.unwrap_or(usize::MAX);
        let most = prompt.ids.len().saturating_add(max_tokens).min(self.session.positions() + 1);
        let mut sampler = sampling.sampler(most, model.config().vocabulary)?;
        let budget = if self.args.no_thinking { Some(0) } else { self.args.thinking_budget };
        if let Some(budget) = budget {
            sampler = self.chat.with_thinking_budget(sampler, prompt, budget)?;
        }
        let lookup = self.args.sampling.lookup();
        let options = self.chat.options(GenerateOptions { sampling, max_tokens, lookup, ..GenerateOptions::default() });
        let id = self.session.join_with(Prompt { ids: prompt.ids.clone(), options: options.clone() }, sampler)?;
        Ok((options, id))
    }

    fn conversation(&self) -> Conversation {
        let system = self.system.iter().map(|text| Message::new("system", text));
        let mut talk = Conversation::of(system.chain(self.messages.iter().cloned()));
        if self.args.no_thinking {
            talk.variables.insert("enable_thinking".into(), false.into());
        }
        talk
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        let turn = |message: &Message| {
            let mut turn = json!({ "role": message.role, "content": message.content });
            if let Some(reasoning) = &message.reasoning {
                turn["reasoning_content"] = Value::from(reasoning.as_str());
            }
            turn
        };
        let turns: Vec<Value> = self.conversation().messages.iter().map(turn).collect();
        let saved = serde_json::to_string_pretty(&json!({ "messages": turns }))? + "\n";
        Output::open(path, &[&self.args.model.model])?.write(&saved)
    }

    fn load(&mut self, path: &Path) -> anyhow::Result<()> {
        let read = || -> anyhow::Result<Vec<Message>> {
            let saved: Value = serde_json::from_str(&text::read(path)?)?;
            let turns = saved.get("messages").unwrap_or(&saved).as_array().context("it holds no list of messages")?;
            Ok(turns.iter().map(Message::from_json).collect::<Result<_, _>>()?)
        };
        let mut messages = read().with_context(|| format!("{} is no conversation", path.display()))?;
        let has_system = messages.first().is_some_and(|message| message.role == "system");
        self.system = has_system.then(|| messages.remove(0).content);
        for message in &messages {
            terminal::say(&format!("{}{}", if message.role == "user" { "> " } else { "" }, message.content));
        }
        self.messages = messages;
        self.last = None;
        Ok(())
    }
}
