//! What the worker calls: a model that is loaded in this tab, and one generation at a time, step by step, so that the worker hears of
//! an abort between two steps. Options and outcomes cross as JSON.

mod panics;
mod request;
mod source;

use std::ops::ControlFlow;
use std::sync::Arc;

use js_sys::Function;
use serde_json::{Value, json};
use sterna::chat::{Answer, Chat, Delta};
use sterna::cpu::{CpuOptions, Screening};
use sterna::generate::{Finish, Piece, SequenceId};
use sterna::gpu::{Adapter, GpuOptions};
use sterna::{Device, Error, Model, Result, Session, StepBudget};
use wasm_bindgen::prelude::{JsError, JsValue, wasm_bindgen};

use request::{GenerateRequest, LoadRequest};
use source::JsSource;

/// A model in this tab.
#[wasm_bindgen]
pub struct Tab {
    session: Session,
    chat: Option<Chat>,
    device: Chosen,
    running: Option<Running>,
}

/// The device that was taken, and why.
struct Chosen {
    device: Device,
    kind: &'static str,
    is_software: bool,
    reason: String,
}

/// What is generated.
struct Running {
    id: SequenceId,
    answer: Option<Answer>,
}

/// Bytes of memory that this module holds, which never shrinks: the most that was in use. It may be asked at any time, also while
/// a step is waited for.
#[wasm_bindgen]
pub fn held_bytes() -> f64 {
    core::arch::wasm32::memory_size(0) as f64 * 65536.0
}

#[wasm_bindgen]
impl Tab {
    /// Loads the source of this number, of `size` bytes. `progress` is called with the layers that are loaded, and of all; true ends it.
    pub async fn load(source: u32, size: f64, options: String, progress: Function) -> Result<Tab, JsError> {
        let request: LoadRequest = request::read(&options)?;
        let source = Arc::new(JsSource { number: source, size: size as u64 });
        let model = Model::from_ranges(source, &request.open_options())?;
        let device = Chosen::of(&request).await?;
        let mut tell = |done: usize, all: usize| {
            let answer = progress.call2(&JsValue::NULL, &JsValue::from(done as u32), &JsValue::from(all as u32));
            match answer.is_ok_and(|answer| answer.is_truthy()) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let loaded = model.load_async(&device.device, &mut tell).await?;
        let session = loaded.session_async(&request.session_options()?).await?;
        let chat = match model.chat_template() {
            Some(_) => Some(model.chat()?),
            None => None,
        };
        Ok(Tab { session, chat, device, running: None })
    }

    /// What was loaded, as JSON: `ModelInfo` of `js/sterna.d.ts`.
    pub fn describe(&self) -> String {
        let (model, Chosen { kind, is_software, reason, .. }) = (self.session.model(), &self.device);
        let metadata = model.metadata();
        let name = metadata.string("general.name").ok().flatten();
        json!({
            "name": name,
            "architecture": model.config().architecture,
            "device": kind,
            "deviceName": self.session.device(),
            "isSoftware": is_software,
            "reason": reason,
            "weightBytes": self.session.loaded().weight_bytes(),
            "context": self.session.positions(),
            "vocabulary": model.config().vocabulary,
            "layers": model.config().layers,
            "hasChat": self.chat.is_some(),
            "decisions": model.decisions().iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
        .to_string()
    }

    /// Begins a generation, after which [`Tab::step`] is to be called until it is over.
    pub fn begin(&mut self, request: &str) -> Result<(), JsError> {
        let request: GenerateRequest = request::read(request)?;
        request.check()?;
        self.cancel();
        let mut options = request.options(self.session.model());
        let mut answer = None;
        let ids = match (&request.prompt, request.conversation()?) {
            (_, Some(conversation)) => {
                let none = || Error::Input("this model has no chat template; give it a prompt to continue".into());
                let chat = self.chat.as_ref().ok_or_else(none)?;
                let prompt = chat.prompt(&conversation)?;
                options = chat.options(options);
                answer = Some(chat.answer(&prompt, &conversation));
                prompt.ids
            }
            (Some(prompt), None) => self.session.model().tokenizer()?.encode_prompt(prompt)?,
            (None, None) => request.ids.unwrap_or_default(),
        };
        let id = self.session.join(sterna::Prompt { ids, options })?;
        self.running = Some(Running { id, answer });
        Ok(())
    }

    /// One step: the pieces that it made, as JSON, `[{id, text, reasoning, finish, error, usage}]`. Empty while a prompt is read.
    pub async fn step(&mut self) -> String {
        let pieces = self.session.step_async(&StepBudget::whole_chunks()).await.to_vec();
        let made: Vec<Value> = pieces.iter().filter_map(|piece| self.told(piece)).collect();
        Value::from(made).to_string()
    }

    /// Ends what is generated. The next step tells of it.
    pub fn cancel(&mut self) {
        if let Some(running) = &self.running {
            self.session.leave(running.id);
        }
    }
}

impl Tab {
    /// A piece as JSON; none if it is of a generation that nobody waits for.
    fn told(&mut self, piece: &Piece) -> Option<Value> {
        let running = self.running.as_mut().filter(|running| running.id == piece.sequence)?;
        let (mut text, mut reasoning) = (String::new(), String::new());
        match (&mut running.answer, &self.chat) {
            (Some(answer), Some(chat)) => {
                for delta in chat.read(answer, piece) {
                    match delta {
                        Delta::Content(more) => text.push_str(&more),
                        Delta::Reasoning(more) => reasoning.push_str(&more),
                        _ => {} // no tools are offered
                    }
                }
            }
            _ => text.clone_from(&piece.text),
        }
        let finish = piece.finish.map(|finish| match finish {
            Finish::MaxTokens => "max-tokens",
            Finish::ContextFull => "context-full",
            Finish::Cancelled => "aborted",
            Finish::Failed => "failed",
            _ => "end",
        });
        if finish.is_some() {
            self.running = None;
        }
        Some(json!({
            "id": piece.id,
            "text": text,
            "reasoning": reasoning,
            "finish": finish,
            "error": piece.error.as_ref().map(ToString::to_string),
            "usage": { "prompt": piece.usage.prompt, "cached": piece.usage.cached, "made": piece.usage.made },
        }))
    }
}

impl Chosen {
    async fn of(request: &LoadRequest) -> Result<Self> {
        match request.device.as_deref() {
            Some("cpu") => Self::cpu(request, "asked for".into()),
            Some("webgpu") => Self::gpu(Adapter::of_browser().await?, "asked for".into()).await,
            Some(other) => Err(Error::Input(format!("there is no device \"{other}\"; it is \"webgpu\" or \"cpu\""))),
            None => match Adapter::of_browser().await {
                Ok(adapter) if !adapter.is_software() => {
                    let reason = "this browser has WebGPU".into();
                    Self::gpu(adapter, reason).await
                }
                Ok(adapter) => Self::cpu(
                    request,
                    format!("the only WebGPU here is software ({}), which is slower", adapter.name()),
                ),
                Err(error) => Self::cpu(request, error.to_string()),
            },
        }
    }

    fn cpu(request: &LoadRequest, reason: String) -> Result<Self> {
        let kernels = request.kernels.as_deref().map(str::parse).transpose()?;
        let screening = if request.screening { Screening::WhereFaster } else { Screening::Never };
        let device = Device::cpu_with(CpuOptions { kernels, screening, ..CpuOptions::default() });
        Ok(Self { device, kind: "cpu", is_software: false, reason })
    }

    async fn gpu(adapter: Adapter, reason: String) -> Result<Self> {
        let is_software = adapter.is_software();
        let device = Device::gpu_of_browser(&adapter, &GpuOptions::default()).await?;
        Ok(Self { device, kind: "webgpu", is_software, reason })
    }
}
