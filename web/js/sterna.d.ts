/** A failure that says what to do about it. */
export class SternaError extends Error {}

/** Where a model comes from: the address of a GGUF file, a file that the user gave, or its bytes (an `ArrayBuffer` is moved). */
export type ModelSource = string | URL | Blob | ArrayBuffer | ArrayBufferView;

/** How far a load is: bytes of a download, or layers on the device. */
export interface Progress {
  phase: "download" | "load";
  done: number;
  /** Zero where the server does not tell the size. */
  all: number;
}

export interface LoadOptions {
  /** "auto", the default: the GPU by WebGPU, where it is no software, or else the CPU. */
  device?: "auto" | "webgpu" | "cpu";
  /** Positions of a sequence; by default what the model was trained for, at most 4096. */
  context?: number;
  /** Holds inputs of linear layers in f32, for models that were trained so: slower. */
  precise?: boolean;
  /** The number format of cached keys and values: "f16", the default, or "f32". */
  cache?: "f16" | "f32";
  /** Reads less of the head at each token, on the CPU, for half the head's memory more: the same tokens, and with vocabularies much
   *  larger than 32,000 perhaps sooner. Default false. */
  screening?: boolean;
  /** The kernels of the CPU: "relaxed-simd", "simd128" or "portable". By default the fastest that this browser runs. */
  kernels?: string;
  onProgress?: (progress: Progress) => void;
  signal?: AbortSignal;
  /** Where `worker.js` lies, if not beside `sterna.js`. */
  workerUrl?: string | URL;
}

export interface ModelInfo {
  name: string | null;
  architecture: string;
  device: "webgpu" | "cpu";
  /** The device in words, with the kernels of a CPU. */
  deviceName: string;
  /** Whether the GPU is a program on the CPU. */
  isSoftware: boolean;
  /** Why this device was taken. */
  reason: string;
  weightBytes: number;
  /** Positions of a sequence. */
  context: number;
  vocabulary: number;
  layers: number;
  /** Whether the model brings a chat template, without which `generate` takes no messages. */
  hasChat: boolean;
  /** What loading decided, and why. */
  decisions: string[];
  /** Where the file is: in the browser's storage, as the user gave it, or in memory alone. */
  storage: "browser" | "file" | "memory";
}

export interface Message {
  role: string;
  content: string;
  /** On the last message, of the model: it is gone on with, and no answer begun. */
  prefix?: boolean;
}

export interface GenerateOptions {
  maxTokens?: number;
  /** 0 takes the most likely token each time. Where an option of sampling is not given, the model's own holds. */
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  /** The same seed makes the same text. */
  seed?: number;
  /** Texts that end the generation. */
  stop?: string[];
  /** Goes on past the model's end, for measuring. */
  ignoreEnd?: boolean;
  signal?: AbortSignal;
}

/** What a token adds. The last piece has `finish`. */
export interface Piece {
  /** The token; none where the generation ended at one that is not part of it. */
  id: number | null;
  text: string;
  /** What the model thinks before it answers, where it does. */
  reasoning: string;
  finish: "end" | "max-tokens" | "context-full" | "aborted" | null;
  usage: { prompt: number; cached: number; made: number };
}

export interface Model {
  readonly info: ModelInfo;
  /** One generation at a time. Leaving the loop early aborts it. */
  generate(prompt: string | Message[] | number[], options?: GenerateOptions): AsyncGenerator<Piece, void, void>;
  /** Ends what is generated, after the step that is computed. */
  abort(): void;
  /** Bytes of memory that the worker's module holds: the most that was in use. */
  memory(): Promise<number>;
  /** Ends the worker, and frees all that it holds. */
  close(): void;
}

export function load(source: ModelSource, options?: LoadOptions): Promise<Model>;

/** Forgets the files that were downloaded, or one of them. An error tells of files that stay, as another tab downloads them. */
export function forget(url?: string | URL, options?: Pick<LoadOptions, "workerUrl">): Promise<void>;
